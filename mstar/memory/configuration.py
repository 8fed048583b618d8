"""Reading, from a parsed configuration, what memory depends on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal

from mstar.errors import ConfigError
from mstar.memory.optimizer_states import OptimizerCost, cost_of
from mstar.memory.plan import EnginePlan, Plan, RewardPlan, RolloutPlan
from mstar.memory.shape import Training
from mstar.models.lora import LoraSettings
from mstar.selection import COUNTING, learns_from_all


def _arguments(value: Any) -> Mapping[str, Any]:
    """The arguments of a class, or of a plain section."""
    if not isinstance(value, Mapping):
        return {}
    found = value.get("init_args") if "class_path" in value else value
    return found if isinstance(found, Mapping) else {}


def _class(value: Any) -> str:
    if isinstance(value, str):
        return value
    return str(value.get("class_path", "")) if isinstance(value, Mapping) else ""


def read_plan(config: Mapping[str, Any], *, evaluate: bool = False) -> Plan:
    """The plan of a parsed configuration of fit or annotate, or with ``evaluate`` of validate, test or predict.

    Raises:
        ConfigError: an annotation has no policy here.
    """
    if "policy" in config and "model" not in config:
        return _annotation(config)
    model, data, trainer = _arguments(config.get("model")), _arguments(config.get("data")), config.get("trainer") or {}
    name = _class(config.get("model"))
    kind: Literal["policy", "mprm", "score"] = (
        "mprm" if name.endswith("MPRMModule") else "score" if name.endswith("StepBenchmarkModule") else "policy"
    )
    reward = _step_reward(model) if kind == "score" else None
    rows = data.get("batch_size") if reward is None else min(reward.rows, data.get("eval_batch_size") or reward.rows)
    optimizer, name = _optimizer(model.get("optimizer"))
    checkpoint = _callback(trainer.get("callbacks"), "IterationCheckpoint")
    rollout = config.get("rollout")
    return Plan(
        kind=kind,
        fits=not evaluate and kind != "score",
        model_name=str(model.get("model_name") or "") if reward is None else reward.model,
        trust_remote_code=bool(model.get("trust_remote_code")),
        revision=model.get("revision") if reward is None else reward.revision,
        dtype=str(model.get("dtype") or "float32") if reward is None else reward.dtype or "auto",
        precision=None if trainer.get("precision") is None else str(trainer["precision"]),
        training=Training(tuple(model.get("freeze") or ()), _lora(model.get("lora"))),
        checkpointing=bool(model.get("gradient_checkpointing")),
        rows=int(rows or 1),
        optimizer=optimizer,
        optimizer_name=name,
        loss=str(model.get("loss_kernel") or "chunked"),
        share_prompts=bool(model.get("share_prompts", True)),
        strategy=_strategy(trainer),
        devices=count_devices(trainer.get("devices", "auto")),
        nodes=int(trainer.get("num_nodes") or 1),
        accelerator=str(trainer.get("accelerator") or "auto"),
        steps_kept=None if checkpoint.get("keep_all") else int(checkpoint.get("keep_last") or 1),
        every=int(checkpoint.get("every") or 1),
        within=checkpoint.get("every_n_steps") is not None,
        checkpoints=trainer.get("enable_checkpointing") is not False,
        epochs=_epochs(trainer),
        export_dtype=_callback(trainer.get("callbacks"), "ExportCallback").get("dtype"),
        single_file=not _arguments(trainer.get("strategy")).get("save_distributed_checkpoint", True),
        max_pixels=_max_pixels(data),
        max_prompt_tokens=data.get("max_prompt_tokens"),
        max_example_tokens=data.get("max_example_tokens"),
        evaluation=None
        if kind != "policy"
        else _engine(
            model.get("engine")
            or _arguments(rollout).get("engine")
            or {"class_path": "TransformersEngine", "init_args": {"max_new_tokens": model.get("max_new_tokens")}}
        ),
        rollout=_rollout(rollout, _epochs(trainer)) if rollout is not None and kind == "policy" else None,
        reward=reward,
    )


def _annotation(config: Mapping[str, Any]) -> Plan:
    if config["policy"] is None:
        raise ConfigError("the policy is null: what draws by address has its model elsewhere and takes no memory here.")
    settings = _arguments(config.get("settings"))
    engine = _engine(config.get("engine"))
    device = str(config.get("device") or "auto")
    rollout = RolloutPlan(engine, int(settings.get("num_samples") or 16), None, None, None)
    return Plan(
        kind="annotate",
        fits=False,
        model_name=str(config["policy"]),
        trust_remote_code=bool(config.get("trust_remote_code")),
        revision=config.get("revision"),
        dtype=str(config.get("dtype") or "auto"),
        precision="32-true",  # there is no autocast
        training=Training(),
        optimizer=OptimizerCost(0.0),
        accelerator="gpu" if device.startswith("cuda") else device,
        max_pixels=_max_pixels(config),
        max_prompt_tokens=config.get("max_prompt_tokens"),
        rollout=rollout,
    )


def _lora(value: Any) -> LoraSettings | None:
    if value is None or isinstance(value, LoraSettings):
        return value
    return LoraSettings(**_arguments(value))


def _optimizer(value: Any) -> tuple[OptimizerCost, str]:
    arguments, name = _arguments(value), _class(value) or "torch.optim.AdamW"
    return cost_of(
        name,
        momentum=bool(arguments.get("momentum")),
        amsgrad=bool(arguments.get("amsgrad")),
        fused=bool(arguments.get("fused")) or arguments.get("foreach") is False,
    ), name


def _strategy(trainer: Mapping[str, Any]) -> Literal["single", "ddp", "fsdp2"]:
    name = _class(trainer.get("strategy")).lower()
    if "sharded" in name or "modelparallel" in name:
        return "fsdp2"
    many = (count_devices(trainer.get("devices", "auto")) or 1) * int(trainer.get("num_nodes") or 1) > 1
    return "ddp" if "ddp" in name or many else "single"


def count_devices(value: Any) -> int | None:
    """How many ``trainer.devices`` are, on a machine; None for as many as it has."""
    if isinstance(value, (list, tuple)):
        return len(value)
    text = str(value)
    return int(text) if text.isdigit() and int(text) > 0 else len(text.split(",")) if "," in text else None


def _epochs(trainer: Mapping[str, Any]) -> int | None:
    epochs = trainer.get("max_epochs")
    return int(epochs) if epochs is not None and int(epochs) > 0 else None


def _callback(callbacks: Any, name: str) -> Mapping[str, Any]:
    """The arguments of the callback of a class; of several, those of the last one."""
    given = callbacks if isinstance(callbacks, list) else [callbacks]
    found = [_arguments(item) for item in given if _class(item).endswith(name)]
    return found[-1] if found else {}


def _rollout(value: Any, epochs: int | None) -> RolloutPlan:
    settings = _arguments(value)
    refresh = settings.get("refresh_reward_model")
    from_all = learns_from_all(settings.get("method") or "")
    counted = settings.get("selection", "top_k") in COUNTING and not from_all
    if (given := settings.get("reward")) is not None:
        reward = _reward(given, "rollout.reward.init_args.")
    else:
        short = {name: settings.get(f"reward_{name}") for name in ("model", "batch_size", "dtype", "offload")}
        short["quantization"] = settings.get("reward_quantization") or "none"
        reward = _reward({"class_path": "MPRM", "init_args": short}, "rollout.reward_")
    return RolloutPlan(
        engine=_engine(settings.get("engine")),
        num_samples=int(settings.get("num_samples") or 16),
        reward=reward if reward.model else None,
        refresh_rows=None if refresh is None else int(_arguments(refresh).get("batch_size") or 64),
        refreshes=sum(number <= (epochs or number) for number in set(_arguments(refresh).get("iterations") or ())),
        keeps_tokens=from_all,
        keep_iterations=settings.get("keep_iterations"),
        interval=float(settings.get("interval") or 0.25),
        shard_size=int(settings.get("shard_size") or 256),
        kept=int(settings.get("top_k") or 2) if counted else int(settings.get("num_samples") or 16),
    )


def _reward(value: Any, keys: str) -> RewardPlan:
    """A reward by its class path, whatever its class: its model is where its arguments name one."""
    given = _arguments(value)
    return RewardPlan(
        model=str(given.get("folder") or given.get("model") or ""),
        rows=int(given.get("batch_size") or 64),
        dtype=given.get("dtype"),
        offload=given.get("offload"),
        quantization=given.get("quantization"),
        revision=given.get("revision"),
        models=2 if given.get("reference") else 1,
        name=_class(value).rpartition(".")[-1],
        keys=keys,
    )


def _step_reward(model: Mapping[str, Any]) -> RewardPlan:
    """What a benchmark of steps scores with."""
    if (given := model.get("reward")) is not None:
        return _reward(given, "model.reward.init_args.")
    return RewardPlan(
        str(model.get("reward_model") or ""), int(model.get("reward_batch_size") or 64), model.get("dtype"),
        offload=False, quantization=None, keys="model.reward_",
    )  # fmt: skip


def _engine(value: Any) -> EnginePlan:
    name, arguments = _class(value), _arguments(value)
    tokens = int(arguments.get("max_new_tokens") or 1024)
    if name.endswith("VllmEngine"):
        cache, level = arguments.get("kv_cache_gb"), arguments.get("sleep_level")
        return EnginePlan(
            "vllm", tokens, None, float(arguments.get("gpu_memory_utilization") or 0.4),
            int(level) if level is not None else 1 if arguments.get("adapters") == "apart" else 2,
            str(arguments.get("dtype") or "auto"), None if cache is None else int(float(cache) * 2**30),
            int(arguments.get("tensor_parallel_size") or 1),
        )  # fmt: skip
    if name and not name.endswith("TransformersEngine"):
        return EnginePlan("other", tokens)
    return EnginePlan(
        "transformers",
        tokens,
        arguments.get("batch_size"),
        utilization=float(arguments.get("memory_utilization") or 0.3),
        merged=arguments.get("adapters") != "apart",
    )


def _max_pixels(data: Mapping[str, Any]) -> int | None:
    """The loosest limit of the sources of prompts; those in a part, in a mixture and in sources among them."""
    return max(filter(None, _limits(data)), default=None)


def _limits(value: Any) -> Iterator[int | None]:
    if isinstance(value, Mapping):
        yield _arguments(value.get("pixels")).get("maximum")
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from _limits(item)
