"""The card (``README.md``) of an exported model or data set, from the run's own facts: what is unknown is left out."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal
from urllib.parse import urlsplit

import yaml
from huggingface_hub import CardData, DatasetCardData, ModelCardData, metadata_load, try_to_load_from_cache

from mstar.dashboards.page import render
from mstar.dashboards.run_config import SavedConfig, groups_in, read_configs, settings_of
from mstar.dashboards.tables import is_number
from mstar.errors import DataError
from mstar.evaluation.markdown import markdown_table
from mstar.models.backbone import EMBEDDED_MODEL
from mstar.models.families import Family
from mstar.selection import COUNTING, learns_from_all
from mstar.storage import RunDirectory, read_json

CARD: Final = "README.md"
Kind = Literal["policy", "adapter", "mprm"]
_LIBRARY: Final = {"policy": "transformers", "adapter": "peft", "mprm": "mstar", "implicit": "mstar"}
# The module whose policies are process reward models, by its name in a configuration.
_IMPLICIT: Final = "ImplicitRewardModule"
# Settings that are told; any other may name what is not for the public.
_MODEL: Final = ("lr", "dtype", "freeze", "head_size", "beta")
_ANNOTATION: Final = (
    "num_samples", "temperature", "num_continuations", "continuing", "max_per_side", "unmixed_share"
)  # fmt: skip
_ROLLOUT: Final = ("method", "selection", "num_samples", "top_k", "threshold", "interval", "temperature", "deduplicate")
_SOURCE: Final = ("path", "root", "name", "split", "size", "seed")
# What is measured after an iteration: the key, and the column.
_MEASURED: Final = {
    "greedy_accuracy": "greedy accuracy",
    "greedy_chain_accuracy": "greedy chain accuracy",
    "mean_accuracy": "mean accuracy",
    "pass_at_k": "pass@{k}",
    "majority": "majority vote",
}


@dataclass(frozen=True, slots=True)
class CardFacts:
    """What a card is written from.

    Attributes:
        name: What the model is called: that of the hub, or of its folder.
        trained_from: Where its training began: a folder, or a name on the hub.
        run: The folder of its run; None if the checkpoint is not in one.
        iterations: Iterations that the checkpoint has done; None if that is not known.
        command: The command that wrote the folder; None if it is not known.
        best_by: The number by which the epoch was chosen as the best; None if it was not.
        auto_class: The class of Transformers that loads such a model; the general one of causal language models stands
            for one with Python code of its own.
    """

    name: str
    kind: Kind
    trained_from: str
    run: Path | None
    iterations: int | None
    within: bool
    command: str | None = None
    best_by: str | None = None
    auto_class: str = Family.auto_class


def find_run(checkpoint: Path) -> Path | None:
    """The folder of the run that a checkpoint is in; None if it is in none."""
    parents = checkpoint.absolute().parents[:2]
    return next((folder for folder in parents if (folder / "config.yaml").is_file()), None)


def write_card(facts: CardFacts) -> str:
    """The text of a model's card, with its metadata (YAML) in front."""
    origins = list(_origins(facts.trained_from))
    base, licence = origins[-1], next(filter(None, map(_licence, origins)), None)
    config = {} if facts.run is None else _config(facts.run)
    model, rollout, data = (settings_of(config.get(name)) for name in ("model", "rollout", "data"))
    beta = _beta(config.get("model"))
    # It is a policy's folder, and says nowhere but in its run's configuration what it was trained for.
    kind = "implicit" if facts.kind == "policy" and beta is not None else facts.kind
    rewards = kind in ("mprm", "implicit")
    metadata = ModelCardData(
        base_model=base if _is_on_hub(base) and "/" in base else None,
        library_name=_LIBRARY[kind],
        license=licence,
        pipeline_tag=None if rewards else "image-text-to-text",
        tags=["mstar", "self-evolving-training", *(["process-reward-model"] if rewards else [])],
    )
    return _render(
        "model_card.md",
        metadata,
        name=facts.name,
        command=facts.command,
        facts=facts,
        kind=kind,
        own_code=facts.auto_class != Family.auto_class,
        beta=beta,
        origins=[_name(origin) for origin in origins],
        method=[*_rollout_lines(rollout), *_lines("model", _MODEL, model)],
        data=list(_data(data)),
        measured=list(_measured(facts.run, facts.iterations, rewards)),
        licence=licence,
    )


def _render(template: str, metadata: CardData, **values: Any) -> str:
    return render(template, {"metadata": metadata.to_yaml(), **values})


def write_data_card(name: str, form: str, files: Mapping[str, int], run: Path, command: str) -> str:
    """The text of a data set's card, with its metadata (YAML) in front; ``files`` have numbers of rows."""
    metadata = DatasetCardData(
        tags=["mstar", "self-evolving-training"],
        configs=[{"config_name": Path(file).stem, "data_files": file} for file in files],
    )
    data: dict[str, Any] = {}
    writers: list[str] = []
    method: list[str] = []
    measured: list[dict[str, Any]] = []
    for config in read_configs(run):
        # Rows come of rollouts and of annotations: of neither supervised stages, nor of what is only measured on.
        rollout = config.values.get("rollout")
        given = settings_of(config.values.get("data"))
        if rollout:
            found = {role: given.get(role) for role in ("train", "unlabelled", "sources")}
            refresh = settings_of(settings_of(rollout).get("refresh_reward_model"))
            found["refresh_reward_model.prompts"] = refresh.get("prompts")
        else:
            found = {"prompts": config.values.get("prompts") or given.get("prompts")}
            found["sources"] = config.values.get("sources")
        data |= {f"{role} ({config.path})": value for role, value in found.items()}
        model = settings_of(config.values.get("model")).get("model_name") if rollout else config.values.get("policy")
        if isinstance(model, str):
            origins = ", which was trained from ".join(map(_name, _origins(model)))
            trained = ", and what it became in each iteration" if rollout else ""
            writers.append(f"- {config.path}: {origins}{trained}")
        if weights := _weights(config.folder):
            writers.append(f"- {config.path}: weights {weights}")
        how = config.values.get("settings")
        told = _rollout_lines(settings_of(rollout)) if rollout else _lines("settings", _ANNOTATION, settings_of(how))
        method += [f"{line} ({config.path})" for line in told]
        if rollout:
            last = max(RunDirectory(config.folder).iterations, default=0)
            measured += _measured(config.folder, last, rewards=False, of=f" ({config.path})")
    return _render(
        "data_card.md",
        metadata,
        name=name,
        form=form,
        files=files,
        writers=writers,
        method=method,
        data=list(_data(data)),
        measured=measured,
        command=command,
        licence=None,
    )


def _weights(folder: Path) -> str:
    """What wrote an annotation's or each iteration's responses: hashes of weights, or the name of one by address."""
    run = RunDirectory(folder)
    plans = [folder / "manifest.json", *map(run.plan, run.iterations)]
    found = [read_json(path).get("policy") for path in plans if path.exists()]
    return ", ".join(f"`{weights}`" for weights in dict.fromkeys(found) if isinstance(weights, str))


def place(value: str) -> str:
    """A path or address as others may see it: of an absolute path its name, of an address neither user nor query."""
    if "://" in value:
        parts = urlsplit(value)
        return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()
    return Path(value).name if Path(value).expanduser().is_absolute() else value


def _origins(trained_from: str) -> Iterator[str]:
    """What a model was trained from, what that was, and so on; the last one is the base model."""
    seen: set[str] = set()
    while trained_from not in seen:
        seen.add(trained_from)
        yield trained_from
        try:
            before = read_json(Path(trained_from, "provenance.json")).get("trained_from")
        except (DataError, OSError):
            return
        if not isinstance(before, str):
            return
        trained_from = before


def _is_on_hub(origin: str) -> bool:
    """Whether a model's name is one on the hub, and no path, nor that of the embedded model."""
    if origin == EMBEDDED_MODEL or Path(origin).exists():
        return False
    return re.fullmatch(r"\w[\w.-]*(/\w[\w.-]*)?", origin) is not None


def _name(origin: str) -> str:
    """What a model is called in the text; of a folder its name, and that it is one."""
    if origin == EMBEDDED_MODEL or _is_on_hub(origin):
        return f"`{origin}`"
    return f"the folder `{Path(origin).absolute().name}`, which is not on the hub"


def _licence(origin: str, kind: Literal["model", "dataset"] = "model") -> str | None:
    """The licence that the own card of a model or data set names: in its folder, or as the hub's cache has it.

    Data may be a file, whose card is beside it.
    """
    folders = (Path(origin), *([Path(origin).parent] if kind == "dataset" else []))
    cards = [card for folder in folders if (card := folder / CARD).is_file()]
    try:
        # What looks like an id and is none is a ValueError.
        if not cards and _is_on_hub(origin):
            stored = try_to_load_from_cache(origin, CARD, repo_type=kind)
            cards = [Path(stored)] if isinstance(stored, str) else []
        licence = (metadata_load(cards[0]) or {}).get("license") if cards else None
    except (OSError, ValueError, yaml.YAMLError):  # it is somebody's text, and no card that says a licence
        return None
    # Of a model it is metadata, in which the hub takes one identifier.
    names = _listed(licence) if kind == "dataset" else [licence]
    return ", ".join(name for name in names if isinstance(name, str)) or None


def _lines(group: str, names: Sequence[str], settings: Mapping[str, Any]) -> list[str]:
    told = {name: _told(settings.get(name)) for name in names}
    return [f"- `{group}.{name}`: {value}" for name, value in told.items() if value is not None]


def _rollout_lines(rollout: Mapping[str, Any]) -> list[str]:
    reward = rollout.get("reward_model")
    named = [f"- `rollout.reward_model`: `{place(reward)}`"] if isinstance(reward, str) else []
    selection, unused = rollout.get("selection", "top_k"), set[str]()
    if learns_from_all(str(rollout.get("method"))):
        unused = {"selection", "top_k", "threshold", "deduplicate"}
    elif isinstance(selection, str):
        unused = {"threshold"} - {selection} | (set() if selection in COUNTING else {"top_k"})
    return [*_lines("rollout", [name for name in _ROLLOUT if name not in unused], rollout), *named]


def _config(run: Path) -> Mapping[str, Any]:
    path = run / "config.yaml"
    return SavedConfig(path.name, path.read_text(encoding="utf-8", errors="replace"), run).values


def _beta(model: Any) -> float | None:
    """The factor of the log-ratio, where a configuration's model is an implicit process reward model; else None."""
    if not isinstance(model, dict) or str(model.get("class_path")).rpartition(".")[2] != _IMPLICIT:
        return None
    return float(settings_of(model).get("beta", 0.05))


def _data(data: Mapping[str, Any]) -> Iterator[str]:
    """Where the prompts came from."""
    return (f"- {role}: {source}" for role, value in data.items() for source in _sources(value))


def _sources(value: Any) -> Iterator[str]:
    """The sources of prompts or labels in a setting, by class and by where they are."""
    for group in groups_in(value):
        if isinstance(group.get("class_path"), str):
            settings = settings_of(group)
            shown = (f", {name} {_place_all(settings[name])}" for name in _SOURCE if settings.get(name) is not None)
            places = [item for name in ("path", "root") for item in _listed(settings.get(name))]
            found = (_licence(item, "dataset") for item in places if isinstance(item, str))
            licences = dict.fromkeys(filter(None, found))
            stated = "".join(f", licence `{licence}` by its own card" for licence in licences)
            yield group["class_path"].rpartition(".")[2] + "".join(shown) + stated


def _place_all(value: Any) -> str:
    return ", ".join(f"`{place(str(item))}`" for item in _listed(value))


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _told(value: Any) -> str | None:
    """A plain value, or a class with its settings, of which those of a class of one's own may not be for the public."""
    if isinstance(value, str | int | float):
        return str(value)
    name = value.get("class_path") if isinstance(value, dict) else None
    if not isinstance(name, str):
        return None
    settings = settings_of(value) if name.startswith("mstar.") else {}
    shown = ", ".join(f"{key} {item}" for key, item in settings.items() if isinstance(item, str | int | float | list))
    return name.rpartition(".")[2] + (f" ({shown})" if shown else "")


def _measured(run: Path | None, until: int | None, rewards: bool, of: str = "") -> Iterator[dict[str, Any]]:
    """A table of what was measured on the validation data up to the checkpoint."""
    if run is None or until is None:
        return
    place = RunDirectory(run)
    reports = {number: place.report(number) for number in place.iterations}
    rows = {number: read_json(path).get("dynamics") or {} for number, path in reports.items() if path.exists()}
    what, said, shown = "iteration", "prompts; 0 is before training", _MEASURED
    if not any(rows.values()) and place.validation.exists():
        # A fit without rollouts.
        rows = {int(epoch): row for epoch, row in read_json(place.validation).items()}
        what, said, shown = "epoch", "data, after each epoch", {name: name for row in rows.values() for name in row}
    elif rewards:
        return
    rows = {number: row for number, row in rows.items() if row and number <= until}
    names = [name for name in shown if any(is_number(row.get(name)) for row in rows.values())]
    if not names:
        return
    k = next((row["k"] for row in rows.values() if "k" in row), "k")
    head = [what, *(shown[name].format(k=k) for name in names)]
    cells = [
        [str(number), *(f"{row[name]:.3f}" if is_number(row.get(name)) else "" for name in names)]
        for number, row in rows.items()
    ]
    yield {"said": said + of, "lines": markdown_table(head, cells)}
