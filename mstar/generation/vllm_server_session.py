"""What runs between start and end of ``VllmServerEngine``: servers that get weights, and prove that they have them."""

from __future__ import annotations

import asyncio
import copy
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from mstar.distributed import is_main, wait_for_all
from mstar.endpoint.access import find_url
from mstar.errors import ConfigError, require_least
from mstar.generation.base import HandOver
from mstar.generation.drift import wrong_weights
from mstar.generation.server_pool import Job, ServerPool
from mstar.generation.vllm_families import find_query_scaling
from mstar.generation.vllm_prompts import find_other_setting, picture_settings, processor_options, read_logprobs
from mstar.generation.vllm_server import (
    HALF_WAY,
    RefusedError,
    ServerFacts,
    ServerLostError,
    VllmServer,
    WronglyStartedError,
)
from mstar.generation.vllm_server_worker import model_sizes
from mstar.generation.weight_files import WeightFolder
from mstar.generation.weight_sender import WeightSender
from mstar.models.precision import name_of
from mstar.rendering import Renderer

Transfer = Literal["folder", "nccl"]


@dataclass(frozen=True)
class ServerOptions:
    """The arguments of ``VllmServerEngine``, which describes them."""

    addresses: tuple[str, ...]
    shared_folder: str
    shared_folder_on_servers: str | None
    dtype: Literal["auto", "float32", "bfloat16", "float16"]
    concurrency: int
    answer_timeout: float
    patience: float
    transfer: Transfer = "folder"

    def __post_init__(self) -> None:
        for address in self.addresses:
            try:
                find_url(address)
            except ConfigError as error:
                raise ConfigError(f"VllmServerEngine: addresses has one that cannot be asked: {error}") from error
        require_least("VllmServerEngine: ", concurrency=self.concurrency, answer_timeout=self.answer_timeout)
        require_least("VllmServerEngine: ", 0, patience=self.patience)


@dataclass(frozen=True)
class Proof:
    """What a server that comes back must compute as the others do."""

    job: Job
    tail: tuple[int, ...]
    logprobs: tuple[float, ...]


class ServerSession:
    """Servers that draw from a policy.

    Args:
        kept: Weights that are handed over first, in place of the policy's; None for the policy's.

    Attributes:
        drift_bound: How far the log-probabilities of a server that comes back may be from those of the others.

    Raises:
        ConfigError: weights are to be sent by NCCL, and this machine has no GPU.
        MissingExtraError: the same, and it has no vLLM.
        StorageError: the shared folder cannot be written.
    """

    def __init__(
        self, policy: nn.Module, renderer: Renderer, options: ServerOptions, dtype: torch.dtype, kept: Path | None
    ) -> None:
        self.policy, self.given_renderer, self.options, self.dtype = policy, renderer, options, dtype
        self.drift_bound = float("inf")
        # Its own: of a fast tokenizer, two threads cannot have one, and training has the other.
        self.renderer = copy.deepcopy(renderer)
        self.proofs: tuple[Proof, ...] = ()
        self.pool = ServerPool(
            [VllmServer(address) for address in options.addresses],
            self._prepare,
            *(options.concurrency, options.answer_timeout, options.patience),
        )
        self._senders: dict[str, WeightSender] = {}
        if options.transfer == "nccl":
            self._senders = {s.address: WeightSender(s, options.answer_timeout) for s in self.pool.servers}
        self._facts: ServerFacts | None = None
        self._compared: dict[str, int] = {}
        self._folder = WeightFolder(Path(options.shared_folder), kept)

    @property
    def facts(self) -> ServerFacts:
        """How the servers were started."""
        assert self._facts is not None  # noqa: S101 - weights were handed over
        return self._facts

    def hand_over(self, policy: nn.Module) -> None:
        """Gives every server the policy's present weights. Collective for several processes."""
        self.policy = policy
        self._folder.write(policy, self.dtype)
        self._give()

    def hand_over_kept(self) -> bool:
        """Gives every server the weights that an earlier process kept. Collective.

        Returns:
            Whether they are still there.
        """
        if not self._folder.read_again():
            return False
        self._give()
        return True

    @property
    def weights(self) -> Path:
        """Where the present weights are."""
        return self._folder.current

    def _give(self) -> None:
        self.proofs, self._facts = (), None
        self._compared.clear()
        # One process hands them over, and the others then find them there.
        if is_main():
            self.pool.run(self.pool.prepare_all)
        wait_for_all()
        if not is_main():
            self.pool.run(self.pool.prepare_all)
        self._folder.delete_others()

    @property
    def compared(self) -> HandOver | None:
        """What the servers have proven to hold of the policy's weights at the hand-over, on the main process."""
        return HandOver(sum(self._compared.values())) if is_main() else None

    async def _prepare(self, server: VllmServer) -> None:
        """Makes sure that a server is as it must be, and has the present weights.

        Raises:
            EngineDriftError: it says that it has others than it was given.
            ServerLostError: it does not answer, or cannot be used.
        """
        folder, facts = self._folder, await server.read_facts()
        _require_alike(facts, self._facts, self.policy, self.renderer, self.dtype, self.options.transfer)
        self._facts = facts
        held = await server.read_version()
        has_them = held == folder.version
        sender = self._senders.get(server.address)
        # The others must not interrupt a hand-over, and no group of NCCL has them in it.
        if not has_them and not is_main() and (held == HALF_WAY or sender is not None):
            raise ServerLostError("it waits for another process to give it the present weights")
        shared = self.options.shared_folder_on_servers
        path = str(folder.current if shared is None else Path(shared, folder.root.name, folder.version))
        if has_them:
            server.version = folder.version
        else:
            if sender is not None and held != server.version:
                # It was started anew, or another run has given it weights: it does not know the group that there was.
                sender.close()
            read = partial(server.read_weights, path, folder.version)
            await server.load_weights(read if sender is None else partial(sender.send, folder.current), folder.version)
        if is_main() or not has_them:
            self._require_held(
                server,
                await (server.compare_weights(path) if sender is None else sender.compare(folder.current)),
            )
            if facts.engines > 1:
                await server.require_equal_engines()
        await self._prove_again(server)

    def _require_held(self, server: VllmServer, found: list[dict[str, Any]]) -> None:
        """Makes sure that each worker of a server holds what was written (else ``EngineDriftError``)."""
        for part in found:
            different = part["different"] or (
                ["what it read"] if part.get("fingerprint", self._folder.version) != self._folder.version else []
            )
            if different:
                raise wrong_weights(f"server {server.address}", different, part["compared"])
        self._compared[server.address] = sum(part["compared"] for part in found)

    async def _prove_again(self, server: VllmServer) -> None:
        """Has a server that came back compute what another one has proven right at the hand-over.

        Raises:
            ServerLostError: it computes something else.
        """
        for proof in self.proofs:
            try:
                answer = await server.generate((await asyncio.to_thread(proof.job.bodies))[0])
            except RefusedError as error:
                raise ServerLostError(f"it does not take what the others take: {error}") from error
            computed = read_logprobs(answer, proof.tail)
            drift = sum(abs(a - b) for a, b in zip(computed, proof.logprobs, strict=True)) / len(proof.tail)
            if not drift <= self.drift_bound:
                raise ServerLostError(f"its log-probabilities differ by {drift:.3g} from those of the others")

    def close(self) -> None:
        """Deletes the weights in the shared folder."""
        self.leave()
        self._folder.delete()

    def leave(self) -> None:
        """Lets go of the servers."""
        for sender in self._senders.values():
            sender.close()


def _require_alike(
    facts: ServerFacts, other: ServerFacts | None, policy: Any, renderer: Renderer, dtype: torch.dtype, transfer: str
) -> None:
    """``WronglyStartedError`` if a server does not compute what the trainer and the other servers compute."""
    own, options = model_sizes(policy.config), processor_options(renderer.processor)
    if facts.model != own:
        raise WronglyStartedError(f"it serves another model ({dict(facts.model)}) than the policy ({own})")
    if getattr(torch, facts.dtype, None) != dtype:
        name = name_of(dtype)
        raise WronglyStartedError(f"it computes in {facts.dtype}, but dtype is {name}: start it with --dtype {name}")
    if dict(facts.processor) != options:
        wanted = "without it" if not options else f"""with '{{"backend": "{options["backend"]}"}}'"""
        raise WronglyStartedError(
            f"its --mm-processor-kwargs are {dict(facts.processor)}, which make other pixels than the trainer has: "
            f"start it {wanted}"
        )
    if other_setting := find_other_setting(picture_settings(renderer.processor), facts.pictures):
        raise WronglyStartedError(
            f"its processor prepares pictures otherwise than the policy's ({other_setting}): have it serve a folder "
            "with the policy's preprocessor_config.json and processor_config.json"
        )
    if facts.normalizes or facts.logprobs != "raw_logprobs":
        raise WronglyStartedError("start it with --no-mm-device-do-normalize and --logprobs-mode raw_logprobs")
    scaling = find_query_scaling(policy.config)
    if scaling is not None and facts.longest > scaling[0]:
        raise WronglyStartedError(
            f"it would leave out how the policy scales queries from position {scaling[0]} on: start it with "
            f"--max-model-len {scaling[0]}"
        )
    if transfer != "folder" and facts.transfer != transfer:
        raise WronglyStartedError(
            f"it takes no weights by {transfer}: start it with --weight-transfer-config "
            f"""'{{"backend": "{transfer}"}}', or set transfer to folder"""
        )
    if other is not None and (facts.longest, facts.images) != (other.longest, other.images):
        raise WronglyStartedError(
            f"its --max-model-len and --limit-mm-per-prompt are {facts.longest} and {facts.images}, but those of "
            f"another server are {other.longest} and {other.images}: start them alike"
        )
