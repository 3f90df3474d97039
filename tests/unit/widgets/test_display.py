"""What a notebook shows: tables and YAML, as HTML and as text, all of it escaped."""

from __future__ import annotations

from dataclasses import dataclass

from qwenkit.manifests.render import render
from qwenkit.settings import Settings
from qwenkit.widgets.display import show_table, show_yaml


@dataclass(frozen=True)
class Row:
    verdict: str
    found: float
    fix: str = ""


def bundle(shown):
    return shown._repr_mimebundle_()


def test_rows_may_be_objects_mappings_or_tuples():
    expected = "verdict  found\nok       1.5"
    assert repr(show_table([Row("ok", 1.5)], "verdict", "found")) == expected
    assert repr(show_table([{"verdict": "ok", "found": 1.5}], "verdict", "found")) == expected
    assert repr(show_table([("ok", 1.5)], "verdict", "found")) == expected


def test_columns_that_are_all_empty_are_left_out():
    assert "fix" not in repr(show_table([Row("ok", 1.0)], "verdict", "fix"))
    assert "fix" in repr(show_table([Row("ok", 1.0), Row("fail", 2.0, "x")], "verdict", "fix"))


def test_no_rows_say_so():
    shown = show_table([], "verdict", empty="nothing to <remark>")
    assert repr(shown) == "nothing to <remark>"
    assert bundle(shown)["text/html"] == "<p>nothing to &lt;remark&gt;</p>"


def test_text_of_the_cluster_is_escaped():
    html = bundle(show_table([("<script>", "a&b")], "name", "found"))["text/html"]
    assert "<script>" not in html
    assert "&lt;script&gt;" in html
    assert "a&amp;b" in html


def test_yaml_is_copied_as_it_is_and_its_comments_stay():
    docs = render(Settings(bucket="a-bucket", oss_endpoint="http://127.0.0.1:1"))
    shown = show_yaml(*docs)
    assert repr(shown).count("---") == 3
    assert "# " in repr(shown)
    assert "ossplugin.csi.alibabacloud.com" in bundle(shown)["text/html"]


def test_a_size_is_shown_in_units_of_bytes():
    assert repr(show_table([("a", 1_400_000), ("b", None)], "file", "size")).split() == [
        *("file", "size"),
        *("a", "1.4", "MB"),
        *("b", "-"),
    ]
