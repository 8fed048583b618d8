"""One iteration, in plain Python: stages 1 to 4 in order, kept on the disk shard by shard.

The way through an epoch's start, file by file (what is checked before the first is in callbacks/rollout_check.py):

    callbacks/rollout.py          on_train_epoch_start: the order of what follows
    callbacks/rollout_stages.py   weights to the engine, the reward made ready, the settings as the iteration takes them
    iteration/plan.py             which prompts, in which shards, and what is asked for each
    iteration/shards.py           whose folder it is, and which shards are there already
    iteration/iteration.py        a shard after another: drawn, graded, scored, selected, written; then the examples
    generation/base.py            the engine: requests in, responses out
    grading/base.py               the grader: whether an answer is right
    rewards/base.py               the reward: how good each step is
    selection/rules.py            which are kept (advantages.py: what each is worth, for methods that learn from all)
    datamodules/policy.py         the examples as the epoch's batches

What comes of it is told by iteration/report.py and callbacks/iteration_log.py, and what went wrong by
iteration/decline.py; what ``overlap_shards`` draws beside the training is in callbacks/rollout_ahead.py and
iteration/ahead.py.
"""
