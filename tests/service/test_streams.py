"""Sound over a WebSocket comes out as the network makes it of the whole."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fastapi.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from polsess.checkpoints import save_model
from polsess.models import create_model
from polsess.service.app import create_app
from polsess.service.service import Service
from polsess.service.settings import Limits, ServiceConfig

SOUND = (0.1 * np.random.default_rng(0).standard_normal(1999)).astype(np.float32)


@pytest.fixture(scope="module")
def expected_and_web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Any, TestClient]]:
    folder = tmp_path_factory.mktemp("streams")
    torch.manual_seed(0)
    tiny = {"model_type": "skim", "preset": "tiny", "bidirectional": False, "norm": "cLN"}
    model = create_model(tiny).eval()
    save_model(model, folder / "tiny")
    limits = Limits(max_streams=1, patience_seconds=20.0)
    config = ServiceConfig(folder=folder / "data", streams={"tiny": str(folder / "tiny")}, limits=limits)
    service = Service(config)
    with torch.inference_mode():
        expected = model(torch.from_numpy(SOUND)[None])[0].numpy()
    yield expected, TestClient(create_app(service), base_url="http://localhost")
    service.store.close()


def received(socket: Any, command: str = "flush") -> bytes:
    """What comes until a command is done."""
    parts = []
    while (message := socket.receive()).get("text") is None:
        parts.append(message["bytes"])
    assert message["text"] == f'{{"done":"{command}"}}'
    return b"".join(parts)


def test_pieces_of_any_size_give_what_the_whole_gives(expected_and_web: tuple[Any, TestClient]) -> None:
    expected, web = expected_and_web
    with web.websocket_connect("ws://localhost/v1/stream?format=f32") as socket:
        facts = socket.receive_json()
        assert (facts["sample_rate"], facts["sources"]) == (8000, 2)
        socket.send_bytes(SOUND[:100].tobytes())
        socket.send_text("reset")
        received(socket, "reset")
        for piece in np.split(SOUND, [1, 700, 1500]):
            socket.send_bytes(piece.tobytes())
        socket.send_text("flush")
        found = np.frombuffer(received(socket), "<f4").reshape(-1, 2).T
    np.testing.assert_allclose(found, expected, atol=1e-5)
    with web.websocket_connect("ws://localhost/v1/stream?format=s16") as socket:
        socket.receive_json()
        socket.send_bytes((SOUND * 2**15).astype("<i2").tobytes())
        socket.send_text("flush")
        found = np.frombuffer(received(socket), "<i2").reshape(-1, 2).T / 2**15
    np.testing.assert_allclose(found, expected, atol=1e-3)


@pytest.mark.parametrize(
    ("query", "message", "reason"),
    [
        ("", b"odd", "expected whole samples of 2 bytes, got 3"),
        ("", "delete everything", "expected samples, or flush or reset"),
        ("?model=other", None, "model: expected one of tiny"),
        ("?format=f32", np.array([np.nan], np.float32).tobytes(), "finite"),
    ],
)
def test_what_is_no_sound_ends_the_stream_with_a_reason(
    expected_and_web: tuple[Any, TestClient], query: str, message: bytes | str | None, reason: str
) -> None:
    with expected_and_web[1].websocket_connect(f"ws://localhost/v1/stream{query}") as socket:
        first = socket.receive_json()
        if message is not None:
            socket.send_bytes(message) if isinstance(message, bytes) else socket.send_text(message)
            first = socket.receive_json()
        assert reason in first["error"]


def test_streams_are_few_and_of_this_site(expected_and_web: tuple[Any, TestClient], tmp_path: Path) -> None:
    _, web = expected_and_web
    with web.websocket_connect("ws://localhost/v1/stream") as first:
        first.receive_json()
        with web.websocket_connect("ws://localhost/v1/stream") as second:
            assert "1 streams are open, of at most 1" in second.receive_json()["error"]
    evil = {"origin": "https://evil.example"}
    with pytest.raises(WebSocketDisconnect), web.websocket_connect("ws://localhost/v1/stream", headers=evil):
        pass
    service = Service(ServiceConfig(folder=tmp_path))
    none = TestClient(create_app(service), base_url="http://localhost")
    with none.websocket_connect("ws://localhost/v1/stream") as socket:
        assert "no causal network" in socket.receive_json()["error"]
    service.store.close()
