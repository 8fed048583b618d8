"""The ``score`` command: rows in any form, scores in the form of a run's responses, and what they are good for."""

from __future__ import annotations

import io
import json
import tracemalloc
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from mstar.__main__ import main
from mstar.chat_template import prompt_messages
from mstar.cli.grade_command import grade_file
from mstar.cli.score_command import score_responses
from mstar.errors import ConfigError, StorageError
from mstar.evaluation.best_of_n import measure_best_of_n
from mstar.evaluation.scoring import StoredImage, read_shards, score_shards
from mstar.grading import AnswerGrader, grade_response
from mstar.judges import JudgeGrader
from mstar.prompts.images import open_image
from mstar.prompts.response_rows import find_response_files, read_response_rows
from mstar.rewards import Likelihood, Reward
from mstar.selection import Voting
from mstar.storage import PromptResponses, read_responses, write_responses
from mstar.types import Prompt, Response
from tests.grading.told import Told

if TYPE_CHECKING:
    from tests.stub_server import StubServer


class Digits(Reward):
    """A step is as good as the first digit in it, of 9; it remembers what it was asked."""

    def __init__(self, base: int = 9) -> None:
        self.base = base
        self.asked: list[str] = []

    def score(self, groups: Sequence[tuple[Prompt, Sequence[Response]]]) -> list[list[tuple[float, ...]]]:
        self.asked += [r.text for _, responses in groups for r in responses]
        assert all(image.load() for prompt, _ in groups for image in prompt.images)
        return [[tuple(map(self._step, r.text.splitlines())) for r in responses] for _, responses in groups]

    def _step(self, line: str) -> float:
        return next((int(sign) / self.base for sign in line if sign.isdecimal()), 0.0)


def picture() -> bytes:
    content = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(content, "PNG")
    return content.getvalue()


# Of each question two samples; what scores best is right in the first alone, and the second has no gold answer.
ROWS: list[dict[str, Any]] = [
    {"question": "1 + 4?", "image": "red.png", "response": "9 is far\nAnswer: 5", "answer": "5"},
    {"question": "1 + 4?", "image": "red.png", "response": "1\nAnswer: 6", "answer": "5"},
    {"question": "What is it?", "response": "8\nAnswer: 8"},
    {"question": "What is it?", "response": ""},
    {"question": "2 + 2?", "prompt_id": "four", "response": "Answer: 7", "answer": "4"},
    {"question": "2 + 2?", "prompt_id": "four", "response": "Answer: 4", "answer": "4"},
]


def write(folder: Path, rows: Sequence[dict[str, Any] | str]) -> Path:
    (folder / "red.png").write_bytes(picture())
    path = folder / "in.jsonl"
    path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows) + "\n", "utf-8")
    return path


def score(folder: Path, source: Path, reward: Reward | str | None = None, **options: Any) -> int:
    return score_responses(
        reward or Digits(), str(source), str(folder / "out"), image_root=str(folder), device="cpu", **options
    )


def test_rows_become_scores_and_a_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = write(tmp_path, ROWS)
    assert score(tmp_path, source, html=str(tmp_path / "page.html")) == 0
    [path] = sorted((tmp_path / "out").glob("scores-*.parquet"))
    found = read_responses(path)
    assert [s.step_scores for s in found] == [(1.0, 5 / 9), (1 / 9, 6 / 9), (8 / 9, 8 / 9), (), (7 / 9,), (4 / 9,)]
    assert [s.process_reward for s in found] == [5 / 9, 1 / 9, 8 / 9, 0.0, 7 / 9, 4 / 9]
    assert [s.verdict.correct for s in found] == [True, False, False, False, False, True]
    ids = [s.response.prompt_id for s in found]
    assert ids[0] == ids[1] != ids[2] == ids[3] and ids[4:] == ["four", "four"]  # noqa: PT018
    result = measure_best_of_n([path])
    assert (result.responses, result.graded, result.auc_within) == (6, 4, 0.5)
    by_rule = {(s.n, s.rule): s.accuracy for s in result.scores}
    assert by_rule[1, "random"] == by_rule[1, "best of N"] == by_rule[2, "random"] == 0.5
    # Of two samples best-of-N and the weighted vote take the right one of the first question alone; so does the vote,
    # whose ties go to the first sample.
    assert [by_rule[2, rule] for rule in ("best of N", "majority", "weighted vote", "oracle")] == [0.5, 0.5, 0.5, 1.0]
    assert "| 2 | 2 | 50.0 | 50.0 (0.0-100.0) |" in (tmp_path / "out/score.md").read_text()
    assert "50.0" in capsys.readouterr().out
    assert "best of N" in (tmp_path / "page.html").read_text()


def test_scoring_goes_on_where_it_was_interrupted(tmp_path: Path) -> None:
    source = write(tmp_path, ROWS)
    assert score(tmp_path, source, shard_size=2) == 0
    before = [path.read_bytes() for path in sorted((tmp_path / "out").glob("scores-*"))]
    assert len(before) == 3
    (tmp_path / "out/scores-00001.parquet").unlink()
    again = Digits()
    assert score(tmp_path, source, again, shard_size=2) == 0
    assert again.asked == ["8\nAnswer: 8", ""]
    assert [path.read_bytes() for path in sorted((tmp_path / "out").glob("scores-*"))] == before
    with pytest.raises(ConfigError, match=r"reward\.base 9 \(now 8\)"):
        score(tmp_path, source, Digits(8), shard_size=2)


def test_what_cannot_be_scored_is_told_and_the_rest_scored(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = write(tmp_path, ["{", ROWS[0], {"response": "4", "image": "no.png"}, {"response": 4}, "", ROWS[1]])
    assert score(tmp_path, source) == 1
    assert score(tmp_path, source) == 1
    assert len(read_responses(tmp_path / "out/scores-00000.parquet")) == 2
    faults = (tmp_path / "out/faults-00000.txt").read_text()
    assert [line.partition(":")[0] for line in faults.splitlines()] == ["row 1", "row 3", "row 4"]
    assert "no.png" in faults
    assert "3 rows of this shard are left out" in capsys.readouterr().err


def test_a_row_without_the_turns_that_its_pictures_stand_in_is_left_out_alone(tmp_path: Path) -> None:
    class Shown(Digits):
        def score(self, groups: Sequence[tuple[Prompt, Sequence[Response]]]) -> list[list[tuple[float, ...]]]:
            assert all(prompt_messages(prompt) for prompt, _ in groups)
            return super().score(groups)

    chat = {"question": "Now <image>?", "images": ["red.png"] * 2, "prompt_id": "chat", "response": "4"}
    assert score(tmp_path, write(tmp_path, [chat, ROWS[0]]), Shown()) == 1
    assert len(read_responses(tmp_path / "out/scores-00000.parquet")) == 1
    [fault] = (tmp_path / "out/faults-00000.txt").read_text().splitlines()
    assert fault.startswith("row 1: the text of prompt 'chat' has '<image>' 1 times, and it has 2 pictures")
    # A reward that looks at no picture scores it.
    assert score_responses(
        Digits(), str(tmp_path / "in.jsonl"), str(tmp_path / "all"), image_root=str(tmp_path), device="cpu"
    ) == 0  # fmt: skip


def test_rows_are_not_told_as_left_out_that_a_later_call_scores(tmp_path: Path) -> None:
    source = write(tmp_path, ROWS[:2])
    out = tmp_path / "out"
    out.mkdir()
    # Of a call that was killed before its shard was written; the picture is there again.
    (out / "faults-00000.txt").write_text("row 1: the picture cannot be read\n")
    assert score(tmp_path, source) == 0
    assert len(read_responses(out / "scores-00000.parquet")) == 2
    assert not (out / "faults-00000.txt").exists()


def test_a_row_with_half_a_surrogate_pair_is_left_out_by_its_number(tmp_path: Path) -> None:
    known = {"logprob": -2.0, "num_tokens": 4}
    texts = ("response", "question", "prompt_id")
    rows = [ROWS[0] | known, *(ROWS[0] | known | {name: f"{ROWS[0].get(name)}\ud83d"} for name in texts)]
    assert score(tmp_path, write(tmp_path, rows), Likelihood()) == 1
    assert len(read_responses(tmp_path / "out/scores-00000.parquet")) == 1
    faults = (tmp_path / "out/faults-00000.txt").read_text().splitlines()
    assert [line.partition(": '")[0] for line in faults] == [
        f"row {n}: the text is no valid Unicode" for n in (2, 3, 4)
    ]


def test_a_row_that_does_not_say_what_the_reward_reads_is_left_out_by_its_number(tmp_path: Path) -> None:
    known = {"logprob": -2.0, "num_tokens": 4}
    rows = [ROWS[0] | known, ROWS[1], ROWS[4] | {"logprob": -2.0}, ROWS[5] | {"num_tokens": 4}]
    assert score(tmp_path, write(tmp_path, rows), Likelihood()) == 1
    assert [s.process_reward for s in read_responses(tmp_path / "out/scores-00000.parquet")] == [
        pytest.approx(0.60653066)
    ]
    faults = (tmp_path / "out/faults-00000.txt").read_text().splitlines()
    wanted = {2: "logprob", 3: "num_tokens", 4: "logprob"}
    assert [line.partition("' is missing")[0] for line in faults] == [f"row {n}: '{name}" for n, name in wanted.items()]


@pytest.mark.parametrize(
    "field",
    [{"sample_index": "a"}, {"num_tokens": True}, {"logprob": []}, {"prompt_id": {}},
     {"predicted": 5}, {"chain_correct": "yes"}],
)  # fmt: skip
def test_a_field_of_another_type_is_told_too(tmp_path: Path, field: dict[str, Any]) -> None:
    own = {"correct": True, "status": "graded"}
    assert score(tmp_path, write(tmp_path, [ROWS[0] | own | field, ROWS[1] | {"status": [], "correct": True}])) == 1
    assert f"row 1: '{next(iter(field))}' is " in (tmp_path / "out/faults-00000.txt").read_text()
    # What is no verdict is graded.
    assert [s.verdict.correct for s in read_responses(tmp_path / "out/scores-00000.parquet")] == [False]


def test_a_prompt_with_its_picture_in_the_rows_is_one_in_whatever_shard(tmp_path: Path) -> None:
    rows = [row | {"image": {"bytes": picture(), "path": None}} for row in (ROWS[0], ROWS[4], ROWS[1])]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "in.parquet")
    assert score(tmp_path, tmp_path / "in.parquet", shard_size=1) == 0
    first, _, second = (
        s.response.prompt_id for p in find_response_files(str(tmp_path / "out")) for s in read_responses(p)
    )
    assert first == second


def test_a_picture_is_decoded_by_the_reward_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded: list[str] = []

    def load(image: StoredImage) -> Image.Image:
        decoded.append(image.uri)
        return Image.new("RGB", (8, 8))

    monkeypatch.setattr(StoredImage, "load", load)
    assert score(tmp_path, write(tmp_path, ROWS)) == 0
    assert decoded == ["red.png"]
    # A reward that does not look at pictures scores rows whose pictures are gone.
    gone = write(tmp_path, [{"response": "4", "image": "no.png", "logprob": -1.0, "num_tokens": 2}])
    assert score_responses(Likelihood(), str(gone), str(tmp_path / "blind"), device="cpu") == 0
    assert len(read_responses(tmp_path / "blind/scores-00000.parquet")) == 1


def test_parquet_with_pictures_and_its_own_verdicts(tmp_path: Path) -> None:
    rows = [
        {**row, "image": {"bytes": picture(), "path": None}, "tolerance": {"relative": 0.5, "absolute": None}}
        for row in ROWS[:2]
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "in.parquet")
    assert score(tmp_path, tmp_path / "in.parquet") == 0
    [path] = find_response_files(str(tmp_path / "out"))
    first = read_responses(path)
    # A tolerance of a half makes both right.
    assert [s.verdict.correct for s in first] == [True, True]
    # What was scored is read again, by grade too, the tolerance with it.
    graded = [row for _, row in read_response_rows(str(tmp_path / "out"), answered=True)]
    assert [row["process_reward"] for row in graded if isinstance(row, dict)] == [5 / 9, 1 / 9]
    output = tmp_path / "graded.jsonl"
    assert main(["grade", "--input", str(tmp_path / "out"), "--output", str(output)]) == 0
    assert [json.loads(line)["correct"] for line in output.read_text().splitlines()] == [True, True]


def test_a_grader_that_asks_a_model_asks_about_all_rows_without_a_verdict_together(tmp_path: Path) -> None:
    judged = {"correct": True, "predicted": "5", "status": "graded"}
    grader = Told()
    assert score(tmp_path, write(tmp_path, [ROWS[0] | judged, *ROWS[1:]]), grader=grader) == 0
    assert grader.told == [len(ROWS) - 1]


def test_a_row_with_another_graders_verdict_votes_as_it_says(tmp_path: Path) -> None:
    # The rules read no answer in these.
    judged = {"correct": True, "predicted": "cat", "status": "graded"}
    said = "I cannot say which of them it might be,\nbut the first is closer to it."
    row = {"question": "Which?", "answer": "cat", "response": said}
    rows = [row | judged, row | judged | {"vote": "feline"}, row | judged | {"vote": ""}, row]
    assert score(tmp_path, write(tmp_path, rows)) == 0
    first, *others = pq.read_table(tmp_path / "out/scores-00000.parquet").to_pylist()
    assert (first["predicted"], first["vote"]) == ("cat", None)
    assert [other["vote"] for other in others] == ["feline", "", ""]


def test_a_reward_is_chosen_by_class_or_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = write(tmp_path, [row | {"logprob": -1.0, "num_tokens": 2} for row in ROWS[2:]])
    arguments = ["score", "--input", str(source), "--device", "cpu"]
    likelihood = [*arguments, "--output", str(tmp_path / "a"), "--reward", "mstar.rewards.Likelihood"]
    assert main(likelihood) == 0
    assert main([*arguments, "--output", str(tmp_path / "b"), "--reward", str(tmp_path / "no")]) == 1
    published = "mstar.rewards.published.QwenMathPRM"
    given = ["--reward", published, "--reward.model", str(tmp_path / "no"), "--reward.batch_size", "2"]
    assert main([*arguments, "--output", str(tmp_path / "b"), *given]) == 1
    errors = capsys.readouterr().err
    assert f"MPRM folder '{tmp_path / 'no'}' does not exist" in errors
    assert "QwenMathPRM: the folder" in errors
    assert not (tmp_path / "b").exists()
    with pytest.raises(ConfigError, match="iterations/0003"):
        find_response_files(str(tmp_path))


def test_a_large_file_is_never_in_memory(tmp_path: Path) -> None:
    path = tmp_path / "in.jsonl"
    with path.open("w", encoding="utf-8") as file:
        for number in range(8_000):
            file.write(json.dumps({"prompt_id": str(number // 8), "response": f"{number} " + "x" * 4_000}) + "\n")
    tracemalloc.start()
    sizes = [len(shard) for shard in read_shards(str(path))]
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert sizes == [512] * 15 + [320]
    assert peak < path.stat().st_size / 4
    # One prompt's responses stay together, unless they are more than twice a shard's.
    assert [len(shard) for shard in read_shards(str(path), 3)][:3] == [6, 6, 4]
    assert [len(shard) for shard in read_shards(str(path), 5)][:3] == [8, 8, 8]


def test_several_processes_share_the_shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = write(tmp_path, ROWS)
    for process in (0, 1):
        monkeypatch.setattr("mstar.evaluation.scoring.takes_part", lambda shard, own=process: shard % 2 == own)
        paths = score_shards(
            str(source),
            tmp_path / "out",
            Digits(),
            AnswerGrader(),
            size=2,
            open_picture=lambda uri, *_: open_image(uri, str(tmp_path)),
        )
        assert [path.exists() for path in paths] == [[True, False, True], [True, True, True]][process]


def test_a_class_that_is_not_there_and_a_folder_that_cannot_be_made_are_told_first(tmp_path: Path) -> None:
    source = write(tmp_path, [{"response": "3"}])
    with pytest.raises(ConfigError, match=r"Likelihod' is neither the folder of an exported MPRM nor a class"):
        score(tmp_path, source, "mstar.rewards.Likelihod")
    with pytest.raises(StorageError, match="Not a directory"):
        score_responses("no such", str(source), str(source))


def test_rows_without_an_id_are_of_one_prompt_only_with_one_picture_and_one_answer(tmp_path: Path) -> None:
    Image.new("RGB", (4, 4), "blue").save(tmp_path / "blue.png")
    asked = {"question": "What colour?", "response": "1\nAnswer: blue"}
    source = write(
        tmp_path,
        [
            asked | {"image": "red.png", "answer": "red", "prompt_id": ""},
            asked | {"image": "blue.png", "answer": "blue", "prompt_id": ""},
            asked | {"answer": "blue"},
            {"response": "Answer: 5", "answer": "4"},
            {"response": "Answer: 5", "answer": "5"},
            {"response": "Answer: 5", "answers": ["4", "5"]},
            {"response": "Answer: 6", "answer": "5"},
        ],
    )
    assert score(tmp_path, source) == 0
    found = [s for path in sorted((tmp_path / "out").glob("scores-*.parquet")) for s in read_responses(path)]
    assert len({s.response.prompt_id for s in found}) == 6
    assert sum(s.verdict.correct for s in found) == 4  # all but the first, the fourth and the last
    assert sum(s.verdict.status == "graded" for s in found) == 7


def test_what_a_run_voted_for_is_no_gold_answer(tmp_path: Path) -> None:
    """Judged by what the responses agree on, the majority would always be right."""
    grader, folder = AnswerGrader(), tmp_path / "iteration"
    hidden, known = Prompt("u", "How many?"), Prompt("k", "How many?", answer="5")
    groups = [
        PromptResponses(asked, tuple(
            grade_response(asked, Response(asked.id, place, f"Answer: {said}", 3, True, 1.0, -1.0), grader)
            for place, said in enumerate("4454")
        ))
        for asked in (hidden, known)
    ]  # fmt: skip
    write_responses(folder / "responses-00000.parquet", [Voting().label(groups[0]), groups[1]])
    assert grade_file(str(folder), str(tmp_path / "graded.jsonl")) == 0
    for name, source in (("run", folder), ("graded", tmp_path / "graded.jsonl")):
        result = measure_best_of_n(score_shards(str(source), tmp_path / name, Likelihood(), grader))
        assert (result.responses, result.graded) == (8, 4)
        assert {s.rule: s.accuracy for s in result.by_n[4]}["majority"] == 0.0
    statuses = [json.loads(line)["status"] for line in (tmp_path / "graded.jsonl").read_text("utf-8").splitlines()]
    assert statuses == ["ungradeable_gold"] * 4 + ["graded"] * 4


def test_an_id_of_two_prompts_is_told(tmp_path: Path) -> None:
    """Predictions of two benchmarks in one file: one's responses would be scored with the other's question."""
    rows = [ROWS[4], ROWS[0] | {"prompt_id": "four"}, ROWS[5]]
    assert score(tmp_path, write(tmp_path, rows), shard_size=1) == 1
    [fault] = [line for path in (tmp_path / "out").glob("faults-*.txt") for line in path.read_text().splitlines()]
    assert fault.startswith("row 2: 'prompt_id' is 'four', as of an earlier row")


def test_what_a_judge_was_asked_is_said(stub: StubServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stub.write = lambda body: "ANSWER: 5\nVERDICT: CORRECT"
    grader = JudgeGrader(stub.address, "judge", cache=str(tmp_path / "answers"), use="always")
    assert score(tmp_path, write(tmp_path, ROWS[:1]), grader=grader) == 0
    assert "judge judge (" in capsys.readouterr().out


def test_a_folder_that_another_scoring_works_in_is_refused(tmp_path: Path, hold_elsewhere: Any) -> None:
    hold_elsewhere(tmp_path / "out")
    with pytest.raises(ConfigError, match="is in use by process"):
        score(tmp_path, write(tmp_path, ROWS))
