from __future__ import annotations

import json

from holdfast.admin.sql.wait import waiting_json
from holdfast.domain.message import AwaitTree, Combinator
from holdfast.engine.row import Waiting


def test_nothing_is_waited_for() -> None:
    assert waiting_json(None) is None


def test_without_a_tree_nobody_knows_how_it_is_combined() -> None:
    shown = json.loads(waiting_json(Waiting((2,), (17,), ("go",))) or "")
    assert shown == {
        "Unknown": [
            {"Single": {"CompletionId": 2}},
            {"Single": {"SignalIndex": 17}},
            {"Single": {"SignalName": "go"}},
        ]
    }


def test_a_tree_is_shown_by_its_combinators() -> None:
    tree = AwaitTree(
        Combinator.FIRST_COMPLETED,
        signals=(1,),
        children=(
            AwaitTree(Combinator.ALL_COMPLETED, (1, 2)),
            AwaitTree(Combinator.ALL_SUCCEEDED_OR_FIRST_FAILED, (3,)),
            AwaitTree(Combinator.FIRST_SUCCEEDED_OR_ALL_FAILED, (4,)),
        ),
    )
    shown = json.loads(waiting_json(Waiting((1, 2, 3, 4), (1,), tree=tree)) or "")
    assert shown == {
        "FirstCompleted": [
            {"Single": {"SignalIndex": 1}},
            {"AllCompleted": [{"Single": {"CompletionId": 1}}, {"Single": {"CompletionId": 2}}]},
            {"AllSucceededOrFirstFailed": [{"Single": {"CompletionId": 3}}]},
            {"FirstSucceededOrAllFailed": [{"Single": {"CompletionId": 4}}]},
        ]
    }
