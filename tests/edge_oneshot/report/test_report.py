import base64
import dataclasses
import io
import re
from html.parser import HTMLParser

import msgspec
import numpy as np
import pytest
from PIL import Image

from edge_oneshot.report import figures, report, terms
from edge_oneshot_device.bundle.drift_section import LayerError
from edge_oneshot_device.errors import MachineError
from tests.raising import raises
from tests.samples import report as report_sample

VOID = {"meta", "link", "img", "br"}


class Page(HTMLParser):
    """Elements and text of a page, and whether every element is closed where it should be."""

    def __init__(self, html):
        super().__init__()
        self.open, self.elements, self.text = [], [], ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, (tag, self.getpos())

    def handle_data(self, data):
        if self.open[-1:] != ["style"]:
            self.text += data

    def ids(self):
        return [attrs["id"] for _, attrs in self.elements if "id" in attrs]


@pytest.fixture(scope="module")
def html():
    return report.render(report_sample.sample())


def test_the_report_is_well_formed_and_has_every_section(html):
    page = Page(html)
    assert page.open == []
    assert set(report_sample.SECTIONS) <= set(page.ids())
    assert len(page.ids()) == len(set(page.ids()))


def test_drift_stands_in_points_with_intervals_and_the_layer_that_loses_most_is_named(html):
    text = " ".join(Page(html).text.split())
    assert "on the same 100 images of 20 held-out identities" in text
    assert "at a FAR of 1 %" in text
    assert "-0.30-0.60 to +0.00" in text
    assert "the lowest is first" in html


def test_drift_alone_is_a_page_where_people_are_too_few_for_any_rate():
    whole = report_sample.sample()
    name, drift = whole.drift[0]
    few = msgspec.structs.replace(drift, tpr_at_fpr={}, layers=())
    page = Page(report.render(report.ReportData(title="Drift", summary="Of few.", drift=((name, few),))))
    assert page.ids() == ["headline", "drift", *(one for one in page.ids() if one.startswith("drift-")), "words"]
    assert "points of equal error rate, against float" in page.text


def test_the_words_that_the_figures_need_are_explained(html):
    text = " ".join(Page(html).text.split())
    for word in ("FARFalse accept rate:", "FRRFalse reject rate:", "DriftDifference between", "LiteRTThe runtime"):
        assert word in text


def test_a_variant_that_is_slower_than_float_here_is_named():
    def slower(name, median):
        row = report_sample.variant(name)
        return dataclasses.replace(row, latency=msgspec.structs.replace(row.latency, median_ms=median))

    times = {"int8": 0.2, "float32": 0.2, "onnx-float32": 0.2, "onnx-int8": 0.3, "dynamic": 0.205}
    rows = tuple(slower(name, median) for name, median in times.items())
    assert [(row.variant, one.variant) for row, one in report.slower_than_float(rows)] == [
        ("onnx-int8", "onnx-float32")
    ]
    page = Page(report.render(dataclasses.replace(report_sample.sample(), variants=rows)))
    text = page.text.replace("\N{NO-BREAK SPACE}", " ")
    assert (
        "Slower on this machine than float32 in the same format: onnx-int8 (0.300 ms; onnx-float32 0.200 ms)." in text
    )
    assert "Slower on this machine" not in Page(report.render(report_sample.sample())).text


def test_layers_stand_by_their_full_names(html):
    name = "fully_connected_layer_of_a_model_of_ones_own_1"
    long = f"{name} + batch_normalization_1 + re_lu_1"
    whole = report_sample.sample()
    variant, drift = whole.drift[0]
    layers = (LayerError(op="FULLY_CONNECTED", name=long, sqnr_db=31.4),)
    page = report.render(dataclasses.replace(whole, drift=((variant, msgspec.structs.replace(drift, layers=layers)),)))
    assert f"FULLY_CONNECTED: {long}" in page
    assert name in re.sub(r"<table.*?</table>", "", page, flags=re.DOTALL)  # in the chart too
    assert "CONV_2D: first" in html


def test_the_report_needs_nothing_from_anywhere(html):
    for tag, attrs in Page(html).elements:
        assert tag not in ("script", "iframe", "object", "embed", "base"), tag
        for name in ("src", "href", "xlink:href", "srcset", "action", "data"):
            assert attrs.get(name, "#").startswith(("#", "data:")), (tag, attrs)
        assert not any(name.startswith("on") for name in attrs), (tag, attrs)
    assert "http:" not in html
    assert "https:" not in html
    assert "@import" not in html
    assert re.findall(r"url\((?!#)", html) == []


def test_every_reference_inside_a_chart_leads_to_an_element_of_the_page(html):
    page = Page(html)
    used = set(re.findall(r'(?:xlink:href="|url\()#([^")]+)', html))
    assert used
    assert used <= set(page.ids())


def test_every_picture_has_a_text_in_its_place_and_decodes(html):
    pictures = [attrs for tag, attrs in Page(html).elements if tag == "img"]
    assert len(pictures) == 4 + 1 + 4 + 1 + 2
    for attrs in pictures:
        assert attrs["alt"].strip()
        with Image.open(io.BytesIO(base64.b64decode(attrs["src"].partition(",")[2]))) as image:
            assert image.size == (16, 16)
    charts = [attrs.keys() for tag, attrs in Page(html).elements if tag == "svg"]
    assert len(charts) == 7 + 3
    # hidden ones are described by the figure around them
    assert all(keys & {"aria-label", "aria-hidden"} for keys in charts)


def test_a_page_on_speech_names_utterances_and_lets_each_recording_be_heard():
    whole = report_sample.sample()
    first, second, third = whole.session
    session = (dataclasses.replace(first, sound=b"RIFF one"), second, dataclasses.replace(third, sound=b"RIFF two"))
    page = Page(report.render(dataclasses.replace(whole, session=session, terms=terms.UTTERANCES)))
    assert page.open == []
    sounds = [attrs for tag, attrs in page.elements if tag == "audio"]
    assert [base64.b64decode(attrs["src"].partition(",")[2]) for attrs in sounds] == [b"RIFF one", b"RIFF two"]
    assert all(attrs["aria-label"].strip() and attrs["src"].startswith("data:audio/wav;") for attrs in sounds)
    text = page.text.replace(whole.scores.data, "")
    assert not re.search("[Dd]rawing|drawer|[Cc]haracter|alphabet", text)
    assert "Each word was enrolled from one utterance" in " ".join(text.split())
    assert not any(tag == "audio" for tag, _ in Page(report.render(whole)).elements)


def test_spectrograms_stand_upright_and_loud_parts_are_bright():
    image = np.zeros((4, 6, 1), np.uint8)
    image[0, 2] = 255  # the lowest band
    with Image.open(io.BytesIO(figures.spectrogram_png(image))) as picture:
        light = np.asarray(picture.convert("L")).astype(int)
    assert light.shape == (4, 6)
    assert np.unravel_index(light.argmax(), light.shape) == (3, 2)
    assert light[3, 2] > 200
    assert (np.delete(light.ravel(), 3 * 6 + 2) < 10).all()
    noisy = np.maximum(image, 100)
    drawn = figures.as_drawings(np.stack([image, noisy]))[..., 0]
    assert drawn[:, 3, 2].tolist() == [0, 100]
    assert (drawn == 255).sum(axis=(1, 2)).tolist() == [23, 23]


def test_the_figures_stand_with_their_units_and_intervals(html):
    text = Page(html).text.replace("\N{NO-BREAK SPACE}", " ")
    for wanted in (
        "80.0 %",  # accuracy of the headline
        "78.8 to 81.1 %",
        "3.2 %",  # equal error rate
        "3.0 to 4.0 %",
        "0.200 ms",
        "853 KB",
        "0.9987",
        "60.0 %50.0 to 70.0 %",  # genuine accepted at 0.1 %
        "Left out: onnx-int8: mean cosine to the Keras model 0.9012",
        "exit 1, expected 0",
        "$ edge-oneshot-device people",
        "threshold 0.460",  # between 0.4 at 10 % and 0.6 at 1 %, log-linear at 5 %
    ):
        assert wanted in text, wanted


def test_the_rates_at_the_threshold_are_counted_on_the_scores_shown():
    data = report_sample.sample()
    scores = dataclasses.replace(
        data.scores,
        target_far=0.1,  # threshold 0.4
        genuine=np.float32([0.3, 0.5, 0.6, 0.7]),
        impostor=np.float32([-0.1, 0.0, 0.1, 0.2, 0.4]),
    )
    text = Page(report.render(dataclasses.replace(data, scores=scores))).text.replace("\N{NO-BREAK SPACE}", " ")
    assert "1 of 5 impostor pairs (20.00 %)" in " ".join(text.split())
    assert "1 of 4 genuine pairs (25.0 %)" in " ".join(text.split())


def test_hostile_names_stay_text():
    hostile = "<script>alert(1)</script>\"'&{{ 7 * 7 }}"
    data = report_sample.sample(hostile)
    data = dataclasses.replace(
        data,
        summary=hostile,
        accuracy_data=hostile,
        embedding_map=dataclasses.replace(data.embedding_map, names=(hostile, "b", "c"), method=hostile),
        session=(report.SessionStep(hostile, report.CommandResult(hostile, 0, 0, hostile), image=None),),
        made=((hostile, hostile),),
    )
    html = report.render(data)
    page = Page(html)
    assert page.open == []
    assert "script" not in {tag for tag, _ in page.elements}
    assert "{{ 7 * 7 }}" in page.text
    assert page.text.count("<script>alert(1)</script>") >= 8


def test_what_was_not_measured_has_no_section():
    page = Page(report.render(report.ReportData(title="Nothing yet", summary="Only a title.")))
    assert page.open == []
    assert set(page.ids()) & set(report_sample.SECTIONS) == {"headline"}
    assert not any(tag == "svg" for tag, _ in page.elements)


def test_variants_that_all_failed_are_still_named():
    data = report.ReportData(title="t", summary="s", left_out=report_sample.sample().left_out)
    assert "onnx-int8" in Page(report.render(data)).text


def test_the_same_data_give_the_same_page():
    assert report.render(report_sample.sample()) == report.render(report_sample.sample())


def test_a_report_is_written_whole_or_not_at_all(tmp_path):
    path = tmp_path / "report.html"
    report.write_report(report_sample.sample(), path)
    assert path.read_text() == report.render(report_sample.sample())
    with raises(MachineError, reason="cannot_write"):
        report.write_report(report_sample.sample(), tmp_path / "missing" / "report.html")


@pytest.mark.parametrize(
    ("value", "text"), [(0.2, "0.200 ms"), (1.234, "1.23 ms"), (12.34, "12.3 ms"), (1234.5, "1,234 ms")]
)
def test_times_read_well(value, text):
    assert report.milliseconds(value) == text.replace(" ", "\N{NO-BREAK SPACE}")


def test_rates_and_sizes_read_well():
    assert report.percent(0.94321) == "94.3\N{NO-BREAK SPACE}%"
    assert report.interval((0.9, 0.95), 2) == "90.00 to 95.00\N{NO-BREAK SPACE}%"
    assert report.kilobytes(3_332_100) == "3,332\N{NO-BREAK SPACE}KB"


def test_drawings_on_the_map_stay_on_it_and_apart():
    rng = np.random.default_rng(0)
    points = np.concatenate([np.zeros((10, 2)) + rng.normal(0, 1e-6, (10, 2)), [[1.0, 1.0]]])
    plane = figures.drawing_map(report_sample.drawings(rng, 11), np.zeros(11, np.int64), ("one",), points)
    places = np.array([(spot.x, spot.y) for spot in plane.spots])
    side = plane.spots[0].side
    assert (places >= 0).all()
    assert (places <= np.array([plane.width, plane.height]) - side).all()
    distance = np.linalg.norm(places[:, np.newaxis] - places, axis=2)
    np.fill_diagonal(distance, np.inf)
    assert distance.min() > side / 2
    # y points up on the plane, down on the page
    assert places[10, 0] > places[:10, 0].max()
    assert places[10, 1] < places[:10, 1].min()


def test_a_tinted_drawing_is_its_ink_in_one_colour_on_nothing():
    image = np.full((8, 8, 1), 255, np.uint8)
    image[2:4, 2:4] = 0
    with Image.open(io.BytesIO(base64.b64decode(figures.ink_uri(image, "#1769aa").partition(",")[2]))) as picture:
        pixels = np.asarray(picture.convert("RGBA"))
    assert (pixels[2:4, 2:4] == (0x17, 0x69, 0xAA, 255)).all()
    assert pixels[..., 3].sum() == 4 * 255


def test_charts_of_constant_scores_are_drawn():
    same = np.full(5, 0.5, np.float32)
    assert figures.score_chart(same, same, 0.5).startswith("<svg")
    assert figures.degree_chart(report_sample.calibration(), same, same, 0.5).startswith("<svg")
