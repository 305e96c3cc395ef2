"""Networks that must not pass, networks of the tester's own, and images of other people's making."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

import pytest
import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("network", ["identity", "blur", "constant"])
def test_networks_that_do_nothing_for_the_image_fail_the_default_policy(cli: Any, tmp_path: Path, network: str) -> None:
    engine = getattr(cli, network)(tmp_path / "net.onnx")
    ended = cli.check(engine, "--policy", "default", "--limit", "4", "--out", "run", cwd=tmp_path)
    assert ended.code == 1, (ended.out, ended.err)
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    failed = {row["requirement"] for row in report["outcomes"] if row["status"] == "FAIL"}
    assert "clean-gain" in failed


NETS = '''
"""A tester's own network: nothing in it knows of deploy-robust."""
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.last = nn.Conv2d(8, 3, 3, padding=1)

    def forward(self, x):
        return x + 0.1 * self.last(torch.relu(self.first(x)))

def build():
    return Net()
'''


class Deployed(nn.Module):
    """The tester's network as the product runs it: 0 to 255, NHWC, uint8 in, float out."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, image: Tensor) -> Tensor:
        answer: Tensor = self.net(image.permute(0, 3, 1, 2).float() / 255) * 255
        return answer.permute(0, 2, 3, 1)


@pytest.fixture(scope="module")
def own(cli: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the network's code, checkpoint and exported graph, and with pairs of strange names and sizes."""
    folder = tmp_path_factory.mktemp("own")
    (folder / "ournets.py").write_text(NETS)
    names: dict[str, Any] = {}
    exec(NETS, names)
    with torch.random.fork_rng():
        torch.manual_seed(3)
        net = names["build"]().eval()
    torch.save(net.state_dict(), folder / "net.pth")
    dynamic = {0: torch.export.Dim("n"), 1: torch.export.Dim("h"), 2: torch.export.Dim("w")}
    torch.onnx.export(
        Deployed(net).eval(),
        (torch.zeros(2, 40, 48, 3, dtype=torch.uint8),),
        str(folder / "net.onnx"),
        dynamo=True,
        dynamic_shapes=(dynamic,),
        external_data=False,
        verbose=False,
    )
    sizes = {STRANGE[0]: (32, 48), STRANGE[1]: (48, 33), STRANGE[2]: (40, 40)}
    pairs = {name: (cli.picture(i, size), cli.picture(i + 9, size)) for i, (name, size) in enumerate(sizes.items())}
    cli.write_pairs(folder / "pairs", pairs)
    return folder


STRANGE = ("<img src=x onerror=alert(1)>&", "\x1b[31mred\x07", "[bold]a[/nonsense] ]]>")
"""File names with HTML, with terminal escapes, and with the markup of the library that draws the tables."""


@pytest.fixture(scope="module")
def checked(cli: Any, own: Path) -> Any:
    return cli.check(
        own / "net.onnx",
        *("--source", "ournets:build", "--source-checkpoint", "net.pth", "--out", "run"),
        *("--range", "0,255", "--layout", "NHWC", "--dtype", "uint8"),
        data=own / "pairs",
        cwd=own,
    )


def test_a_network_of_the_testers_own_is_checked_over_images_of_several_sizes(checked: Any, own: Path) -> None:
    assert checked.code in (0, 1), (checked.out, checked.err)
    report = json.loads((own / "run" / "report.json").read_text())
    (parity,) = [row for row in report["outcomes"] if row["requirement"] == "parity"]
    assert parity["quantity"] == "conversion"
    assert parity["status"] == "PASS"
    assert parity["identical"] or parity["value"] > 100
    assert report["caps"] == []
    facts = report["provenance"]
    assert facts["source"]["name"] == "ournets:build"
    assert facts["source"]["kind"] == "twin"
    assert facts["source"]["origin"] == "net.pth"
    assert facts["engine"]["file"] == "net.onnx"
    io = facts["engine"]["io"]
    assert (io["dtype"], io["layout"], io["range"]) == ("uint8", "NHWC", [0.0, 255.0])
    assert any("8-bit integers" in note for note in report["notes"])
    assert report["defects"] == []
    assert report["pairs"] == report["scenes"] == 3
    assert len(report["cases"]) == 3 * 2
    assert all(row["psnr_attacked"] is not None for row in report["cases"])


def test_file_names_reach_no_terminal_and_no_browser_as_they_are(checked: Any, own: Path) -> None:
    run = own / "run"
    names = ("report.html", "junit.xml", "summary.md", "report.json")
    written = {name: (run / name).read_text() for name in names}
    for name, text in {**written, "terminal": checked.out + checked.err}.items():
        assert "\x1b" not in text, name
        assert "\x07" not in text, name
    assert "<img src=x" not in written["report.html"]
    assert "&lt;img src=x onerror=alert(1)&gt;&amp;" in written["report.html"]
    assert "<img src=x" not in written["summary.md"]
    ET.fromstring(written["junit.xml"])
    pairs = {row["case"]["pair"] for row in json.loads(written["report.json"])["cases"]}
    assert pairs == {STRANGE[0], "\\x1b[31mred\\x07", STRANGE[2]}


def test_strange_names_can_be_printed_when_something_is_wrong(cli: Any, own: Path, tmp_path: Path) -> None:
    folder = cli.write_pairs(tmp_path / "pairs", {STRANGE[1]: (cli.picture(1), cli.picture(2))})
    (folder / "norain" / f"{STRANGE[1]}.png").write_bytes(b"no picture")
    complaint = cli.check(own / "net.onnx", data=folder, cwd=tmp_path).complaint()
    assert "\x1b" not in complaint
    assert "\\x1b[31mred" in complaint
