"""Settings of every test process and of the processes that tests start; they must precede the first import of torch."""

from __future__ import annotations

import os

# Nothing in the tests may reach the network; HF_HUB_OFFLINE=0 lets the GPU tests fetch a real model.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
# One thread a process: the models are tiny, pytest-xdist fills the cores, and the order of sums stays the same.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MKL_NUM_THREADS", "1")

import copy
import gc
import importlib.util
import logging
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final

import pytest

from mstar.logs import start_logging

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from mstar.rendering import Renderer
    from mstar.types import Prompt

SharedFolder = Callable[[str, Callable[[Path], None]], Path]
# SmolVLM's template: another end token, a turn opened and closed, text before and after the response.
SMOLVLM_TEMPLATE: Final = (
    "<|im_start|>{% for message in messages %}{{message['role'] | capitalize}}"
    "{% if message['content'][0]['type'] == 'image' %}{{':'}}{% else %}{{': '}}{% endif %}"
    "{% for line in message['content'] %}{% if line['type'] == 'text' %}{{line['text']}}"
    "{% elif line['type'] == 'image' %}{{ '<image>' }}{% endif %}{% endfor %}<end_of_utterance>\n{% endfor %}"
    "{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}"
)
LLAVA_TEMPLATE: Final = (
    "{% for message in messages %}{{ message['role'] | upper }}: "
    "{% for part in message['content'] %}{% if part['type'] == 'image' %}<image>\n{% else %}{{ part['text'] }}"
    "{% endif %}{% endfor %} {% endfor %}{% if add_generation_prompt %}ASSISTANT:{% endif %}"
)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Lets the settings of pytest-timeout pass where it is missing: tests also run where nothing can be installed."""
    if importlib.util.find_spec("pytest_timeout") is None:
        parser.addini("timeout", "longest time of a test, in seconds; needs pytest-timeout")


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache of the test's own."""
    monkeypatch.setenv("MSTAR_CACHE", str(tmp_path / "cache"))


def pytest_configure(config: pytest.Config) -> None:
    """The same for its marker; and Hypothesis watches no clock, which a busy machine would fail."""
    if importlib.util.find_spec("pytest_timeout") is None:
        config.addinivalue_line("markers", "timeout(seconds): longest time of a test; needs pytest-timeout")
    if importlib.util.find_spec("hypothesis") is not None:
        from hypothesis import settings

        settings.register_profile("mstar", deadline=None)
        settings.load_profile("mstar")


# What takes longest: it must not begin last, because then it is waited for.
LONGEST: Final = tuple(
    f"tests/{name}"
    for name in (
        *("models/test_family_table.py", "integration/", "models/", "demo/", "small/", "memory/", "test_configs.py"),
        *("test_wheel.py", "test_docs.py", "test_notebook.py", "gpu/"),
    )
)


# What is imported and collected stays, so that looking for garbage in it only takes time: two seconds a worker.
gc.disable()


def pytest_collection_finish() -> None:
    """Garbage is looked for again, in what the tests make."""
    gc.freeze()
    gc.enable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files come first, in the same order in every process: pytest-xdist hands files out as they come."""
    items.sort(
        key=lambda item: next((i for i, name in enumerate(LONGEST) if item.nodeid.startswith(name)), len(LONGEST))
    )


@dataclass(frozen=True)
class Policy:
    """A model with its renderer; shared by tests, so it must not be changed."""

    model: PreTrainedModel
    renderer: Renderer


def load_module(name: str) -> ModuleType:
    """A file beside this one, as a module."""
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(autouse=True)
def fresh_logging() -> None:
    """What is told goes to stderr, as in a command, and to pytest."""
    start_logging()
    logging.getLogger("mstar").propagate = True


@pytest.fixture
def hold_elsewhere() -> Iterator[Callable[[Path], subprocess.Popen[str]]]:
    """Starts a process that holds a folder until it is killed."""
    holders: list[subprocess.Popen[str]] = []

    def hold(folder: Path) -> subprocess.Popen[str]:
        script = (
            "import sys, time; from pathlib import Path; from mstar.locking import hold_folder\n"
            "with hold_folder(Path(sys.argv[1])):\n    print('held', flush=True); time.sleep(100)"
        )
        holder = subprocess.Popen([sys.executable, "-c", script, str(folder)], stdout=subprocess.PIPE, text=True)
        holders.append(holder)
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        return holder

    yield hold
    for holder in holders:
        holder.kill()
        holder.wait()


@pytest.fixture(scope="session")
def checks() -> ModuleType:
    """What every model family must do (``family_checks.py``)."""
    return load_module("family_checks")


@pytest.fixture(scope="session")
def forker() -> Iterator[Any]:
    """Starts processes that need not import everything anew (``forker.py``)."""
    started = load_module("forker").Forker()
    yield started
    started.process.kill()
    started.process.wait()


@pytest.fixture(scope="session")
def architectures() -> ModuleType:
    """Tiny models of every architecture that Transformers knows (``architectures.py``)."""
    return load_module("architectures")


@pytest.fixture(scope="session")
def tiny_families(checks: ModuleType) -> ModuleType:
    """Tiny models of many families (``tiny_families.py``)."""
    return load_module("tiny_families")


@pytest.fixture(scope="session")
def stub_server() -> ModuleType:
    """tests/stub_server.py: a server of chat completions that fails as it is told to."""
    return load_module("stub_server")


@pytest.fixture
def stub(stub_server: ModuleType) -> Iterator[Any]:
    """Such a server, running."""
    with stub_server.serving() as running:
        yield running


@pytest.fixture(scope="session")
def tiny() -> Policy:
    """The embedded model with new weights, in evaluation mode."""
    from mstar.models.backbone import EMBEDDED_MODEL, load_model, load_renderer

    model = load_model(EMBEDDED_MODEL).eval()
    return Policy(model, load_renderer(EMBEDDED_MODEL, model))


def _imitation_loss(model: Any, renderer: Renderer, prompts: Sequence[Prompt]) -> Any:
    batch = renderer.response_inputs(prompts, [prompt.rationale or "" for prompt in prompts])
    inputs = batch.inputs
    return model(input_ids=inputs.ids_BT, attention_mask=inputs.mask_BT, labels=batch.labels_BT, **inputs.extras).loss


@pytest.fixture(scope="session")
def trained(tiny: Policy, shared_folder: SharedFolder) -> Policy:
    """The embedded model after a few steps on seed rationales: it writes lines, and ends them."""
    from mstar.models.backbone import load_model

    def train(folder: Path) -> None:
        import torch

        from mstar.models.export import save_model
        from mstar.prompts import TinyDice

        model: Any = copy.deepcopy(tiny.model).train()
        prompts = list(TinyDice("seed", 480))
        optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
        for step in range(60):
            rows = [prompts[(step * 16 + i) % len(prompts)] for i in range(16)]
            optimizer.zero_grad()
            _imitation_loss(model, tiny.renderer, rows).backward()
            optimizer.step()
        save_model(model, tiny.renderer, folder)

    return Policy(load_model(str(shared_folder("trained", train))).eval(), tiny.renderer)


@pytest.fixture(scope="session")
def split_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Hugging Face folder with another model: images cut into parts, SmolVLM's template, untied embeddings."""
    import torch
    from transformers import Idefics3Config, Idefics3ForConditionalGeneration
    from transformers.models.idefics3.image_processing_pil_idefics3 import Idefics3ImageProcessorPil
    from transformers.models.idefics3.processing_idefics3 import Idefics3Processor

    from mstar.models.tiny import build_tiny_processor

    tokenizer = build_tiny_processor().tokenizer
    tokenizer.add_special_tokens(
        {
            "eos_token": "<|im_end|>",
            "additional_special_tokens": ["<|im_start|>", *(f"<row_{i}_col_{j}>" for i in (1, 2) for j in (1, 2))],
        },
        replace_extra_special_tokens=False,
    )
    # Pictures are scaled to 64 pixels and cut into four parts of 32, beside the whole one.
    images = Idefics3ImageProcessorPil(size={"longest_edge": 64}, max_image_size={"longest_edge": 32})
    processor = Idefics3Processor(images, tokenizer, image_seq_len=4, chat_template=SMOLVLM_TEMPLATE)
    text = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = Idefics3Config(
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        pad_token_id=tokenizer.pad_token_id,
        tie_word_embeddings=False,
        scale_factor=2,
        vision_config={
            **text, "num_hidden_layers": 1, "image_size": 32, "patch_size": 8, "initializer_range": 0.3
        },
        # More rows than the tokenizer has tokens, as in many released models.
        text_config={
            **text, "model_type": "llama", "num_key_value_heads": 2, "vocab_size": len(tokenizer) + 20,
            "initializer_range": 0.3, "pad_token_id": 0, "bos_token_id": None, "eos_token_id": tokenizer.eos_token_id,
        },
    )  # fmt: skip
    torch.manual_seed(5)
    model = Idefics3ForConditionalGeneration(config)
    model.generation_config.eos_token_id = [
        tokenizer.eos_token_id,
        tokenizer.convert_tokens_to_ids("<end_of_utterance>"),
    ]
    model.generation_config.pad_token_id = 0
    folder = tmp_path_factory.mktemp("split")
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def split(split_folder: Path) -> Policy:
    """The model of ``split_folder``, loaded as a user's is."""
    from mstar.models.backbone import load_model, load_renderer

    model = load_model(str(split_folder))
    return Policy(model, load_renderer(str(split_folder), model))


@pytest.fixture(scope="session")
def llava() -> Policy:
    """A tiny LLaVA: another vision tower, and a template that puts no special token after a response."""
    import torch
    from transformers import LlavaConfig, LlavaForConditionalGeneration
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
    from transformers.models.llava.processing_llava import LlavaProcessor

    from mstar.models.tiny import build_tiny_processor
    from mstar.rendering import Renderer

    tokenizer = build_tiny_processor().tokenizer
    images = CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    processor = LlavaProcessor(
        images,
        tokenizer,
        patch_size=16,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=LLAVA_TEMPLATE,
    )
    size = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = LlavaConfig(
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        vision_config={**size, "model_type": "clip_vision_model", "image_size": 32, "patch_size": 16},
        text_config={**size, "model_type": "llama", "vocab_size": len(tokenizer), "initializer_range": 0.3},
        tie_word_embeddings=False,
    )
    torch.manual_seed(6)
    model = LlavaForConditionalGeneration(config).eval()
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    return Policy(model, Renderer(processor, [tokenizer.eos_token_id]))


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory: pytest.TempPathFactory) -> SharedFolder:
    """Makes a folder once for all workers of pytest-xdist: the first that asks for it makes it, the others wait."""
    from filelock import FileLock

    root = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        root = root.parent

    def share(name: str, make: Callable[[Path], None]) -> Path:
        folder, unfinished = root / name, root / f"{name}.unfinished"
        with FileLock(f"{folder}.lock"):
            if not folder.exists():
                make(unfinished)
                unfinished.rename(folder)
        return folder

    return share


@pytest.fixture(scope="session")
def warm_policy(shared_folder: SharedFolder) -> Path:
    """The folder of an embedded policy that answers a quarter of the pool's questions rightly."""
    return shared_folder("warm-policy", train_policy)


def train_policy(folder: Path) -> None:
    """Trains the embedded model on seed rationales until it is right now and then."""
    import random

    import torch

    from mstar.models.backbone import EMBEDDED_MODEL, load_model, load_renderer
    from mstar.models.export import save_model
    from mstar.prompts import TinyDice

    class Right(TinyDice):
        seed_noise = 0.0

    model: Any = load_model(EMBEDDED_MODEL)
    renderer = load_renderer(EMBEDDED_MODEL, model)
    prompts = list(Right("seed", 2000))
    optimizer = torch.optim.AdamW(model.train().parameters(), lr=2e-3, betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, (step + 1) / 20))
    shuffled = random.Random(0)
    for _ in range(100):
        rows = shuffled.sample(prompts, 48)
        optimizer.zero_grad()
        _imitation_loss(model, renderer, rows).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    save_model(model, renderer, folder)


@pytest.fixture(scope="session")
def warm_mprm(warm_policy: Path, shared_folder: SharedFolder) -> Path:
    """The folder of an MPRM that was never trained, but whose scores differ from step to step."""
    return shared_folder("warm-mprm", lambda folder: make_mprm(warm_policy, folder))


def make_mprm(policy: Path, folder: Path) -> None:
    """Puts a head with random weights on a policy."""
    import torch

    from mstar.models.backbone import load_model, load_renderer
    from mstar.models.step_scorer import StepScorer

    backbone = load_model(str(policy))
    scorer = StepScorer(backbone)
    torch.nn.init.normal_(scorer.head.output.weight, std=0.5, generator=torch.Generator().manual_seed(0))
    scorer.save(folder, load_renderer(str(policy), backbone))


@dataclass(frozen=True)
class Evolve:
    """Starts small self-evolving runs by the command line, each in its own folder."""

    folder: Path
    policy: Path

    def settings(self, name: str = "run", **rollout: Any) -> dict[str, Any]:
        """The configuration of a run: 32 prompts, half of them in an iteration, 4 responses each, 2 iterations."""

        def prompts(split: str, size: int) -> dict[str, Any]:
            return {"class_path": "mstar.prompts.TinyDice", "init_args": {"split": split, "size": size}}

        return {
            "model": {
                "class_path": "mstar.modules.PolicyModule",
                "init_args": {
                    "model_name": str(self.policy),
                    "lr": 1e-3,
                    "lr_scheduler": {"class_path": "mstar.modules.WarmupSchedule", "init_args": {"warmup_steps": 4}},
                },
            },
            "data": {
                "class_path": "mstar.datamodules.PolicyDataModule",
                "init_args": {
                    "train": prompts("pool", 32),
                    "validation": prompts("validation", 8),
                    "test": prompts("test", 8),
                    "batch_size": 4,
                },
            },
            "rollout": {
                "num_samples": 4,
                "interval": 0.5,
                "selection": "random",
                "engine": {
                    "class_path": "mstar.generation.TransformersEngine",
                    "init_args": {"max_new_tokens": 26, "progress": False},
                },
                **rollout,
            },
            "trainer": {
                "accelerator": "cpu",
                "max_epochs": 2,
                "log_every_n_steps": 1,
                "default_root_dir": str(self.folder / name),
                "enable_model_summary": False,
                "enable_progress_bar": False,
            },
        }

    def write(self, settings: dict[str, Any], name: str = "run") -> Path:
        """Writes a configuration."""
        import yaml

        path = self.folder / f"{name}.yaml"
        path.write_text(yaml.safe_dump(settings), encoding="utf-8")
        return path

    def __call__(self, *flags: str, name: str = "run", command: str = "fit", **rollout: Any) -> Path:
        """Runs a command to its end and returns the run's folder."""
        from mstar.__main__ import main

        assert main([command, "--config", str(self.write(self.settings(name, **rollout), name)), *flags]) == 0
        return self.folder / name


@pytest.fixture
def evolve(tmp_path: Path, warm_policy: Path) -> Evolve:
    """Starts small self-evolving runs in a folder of this test."""
    return Evolve(tmp_path, warm_policy)


@pytest.fixture(scope="module")
def evolve_once(tmp_path_factory: pytest.TempPathFactory, warm_policy: Path) -> Evolve:
    """The same in a folder that the tests of a module share."""
    return Evolve(tmp_path_factory.mktemp("evolve"), warm_policy)
