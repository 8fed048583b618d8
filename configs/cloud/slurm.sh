#!/usr/bin/env bash
# Two machines of 8 GPUs with SLURM; give the configurations as arguments:
#   sbatch configs/cloud/slurm.sh --config configs/evolve/mathv360k_continuous.yaml \
#     --config configs/evolve/qwen2_5_vl_7b.yaml --config configs/overlays/fsdp2.yaml --config configs/overlays/multi_node.yaml
# What stands later wins: settings of your own (--trainer.num_nodes 4 --trainer.accumulate_grad_batches 2, with
# sbatch --nodes 4) come last.
# Submit it with the environment active that mstar is installed in: sbatch hands it on.
# Lightning reads SLURM's variables: one task a GPU. When SLURM announces the time limit, mstar saves, puts the job in the
# queue again, and goes on from the last checkpoint; so it does when the job is preempted. A --time of not much more than
# the 5 minutes of --signal is over at once. On CPUs (SLURM 22.05, two nodes of one task) all of that was run.
# annotate and score have no Lightning: docs/scale.md in the repository has the line that takes the last one's place.
#SBATCH --job-name=mstar
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=8
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=8
#SBATCH --time=24:00:00
#SBATCH --signal=SIGUSR1@300
#SBATCH --requeue
#SBATCH --open-mode=append
set -euo pipefail
export OMP_NUM_THREADS=8
# export HF_HUB_OFFLINE=1 MSTAR_CACHE=/mnt/shared/mstar  # nodes without a network: docs/scale.md
# Since SLURM 22.05 srun does not take this number over, and where tasks are bound to cores each would have one.
status=0
srun --cpus-per-task="$SLURM_CPUS_PER_TASK" python -m mstar fit "$@" --ckpt_path last || status=$?
# SLURM does not requeue a preempted job that ends within its GraceTime. One that is cancelled has no PreemptTime.
if [ "$status" -eq 143 ] && scontrol show job "$SLURM_JOB_ID" | grep 'PreemptTime=[0-9]' >/dev/null; then
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$status"
