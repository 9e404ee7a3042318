"""Small files as the protocols' authors share them: of MSRVTT-1kA, DiDeMo, VindLU, MSVD, LSMDC and ActivityNet."""

import json

import pytest

from flux_hf.text.pairs import load_pairs
from flux_hf.text.retrieval_evaluation import with_paragraphs
from tests.tiny_search import write_noise


def videos(folder, *names):
    """The first of them is there; the others need not be to be listed."""
    write_noise(folder / names[0], 0, num_frames=2)
    return [str(folder / name) for name in names]


def read(source, **options):
    dataset = load_pairs(source, "test", **options)
    return [row["path"] for row in dataset["video"][:]], dataset["captions"][:]


def test_msrvtt_1ka(tmp_path):
    (tmp_path / "MSRVTT_JSFUSION_test.csv").write_text(
        "key,vid_key,video_id,sentence\n"
        "ret0,msr9770,video9770,a person is connecting something to system\n"
        'ret1,msr9771,video9771,"a little girl, who does gymnastics"\n'
    )
    paths = videos(tmp_path / "all", "video9770.mp4", "video9771.mp4")
    assert read(tmp_path / "MSRVTT_JSFUSION_test.csv", video_root=tmp_path / "all") == (
        paths,
        [["a person is connecting something to system"], ["a little girl, who does gymnastics"]],
    )


def test_didemo_is_searched_as_paragraphs(tmp_path):
    entry = {"num_segments": 6, "times": [[0, 0], [0, 1]], "dl_link": "http://127.0.0.1/x"}
    rows = [
        {"annotation_id": 0, "video": "1@N0_2_3.mov", "description": "the cat looks up"},
        {"annotation_id": 1, "video": "2@N0_4_5.mov", "description": "rain"},
        {"annotation_id": 2, "video": "1@N0_2_3.mov", "description": "it jumps"},
    ]
    (tmp_path / "test_data.json").write_text(json.dumps([row | entry for row in rows]))
    paths = videos(tmp_path, "1@N0_2_3.mov", "2@N0_4_5.mov")
    assert read(tmp_path / "test_data.json") == (paths, [["the cat looks up", "it jumps"], ["rain"]])
    dataset = with_paragraphs(load_pairs(tmp_path / "test_data.json"))
    assert dataset["captions"][:] == [["the cat looks up it jumps"], ["rain"]]


def test_lists_of_vindlu(tmp_path):
    rows = [{"video": "a.mp4", "caption": ["one", "two"]}, {"video": "b.mp4", "caption": "three"}]
    (tmp_path / "msvd_ret_test.json").write_text(json.dumps(rows))
    paths = videos(tmp_path, "a.mp4", "b.mp4")
    assert read(tmp_path / "msvd_ret_test.json") == (paths, [["one", "two"], ["three"]])


def test_msvd(tmp_path):
    (tmp_path / "AllVideoDescriptions.txt").write_text(
        "# Microsoft Research Video Description Corpus\n\n"
        "-4wsuPCjDBc_5_15 a squirrel is eating a peanut\n"
        "mv89psg6zh4_33_46 a bird bathes\n"
        "-4wsuPCjDBc_5_15 a chipmunk eats\n"
        "xBePrplM4OA_6_18 a man talks\n"
    )
    (tmp_path / "test_list.txt").write_text("mv89psg6zh4_33_46\n-4wsuPCjDBc_5_15\n")
    paths = videos(tmp_path / "avi", "mv89psg6zh4_33_46.avi", "-4wsuPCjDBc_5_15.avi")
    found = read(tmp_path / "test_list.txt", video_root=tmp_path / "avi")
    assert found == (paths, [["a bird bathes"], ["a squirrel is eating a peanut", "a chipmunk eats"]])
    videos(tmp_path / "avi", "-4wsuPCjDBc_5_15.avi")
    assert len(read(tmp_path / "AllVideoDescriptions.txt", video_root=tmp_path / "avi")[0]) == 3
    (tmp_path / "test_list.txt").write_text("mv89psg6zh4_33_46\nother_1_2\n")
    with pytest.raises(
        ValueError, match=r"test_list.txt, line 2: .*AllVideoDescriptions.txt says nothing of 'other_1_2'"
    ):
        read(tmp_path / "test_list.txt", video_root=tmp_path / "avi")


def test_lsmdc(tmp_path):
    clips = ["1001_American_Beauty_00.01.45.520-00.01.50.195", "3009_BATTLE_LOS_ANGELES_00.03.07.170-00.03.09.675"]
    file = tmp_path / "LSMDC16_challenge_1000_publictect.csv"
    file.write_text(
        "".join(f'{clip}\t00.1\t00.2\t00.1\t00.2\tSomeone "drives", {i}.\n' for i, clip in enumerate(clips))
    )
    paths = videos(tmp_path, f"1001_American_Beauty/{clips[0]}.avi", f"3009_BATTLE_LOS_ANGELES/{clips[1]}.avi")
    assert read(file) == (paths, [['Someone "drives", 0.'], ['Someone "drives", 1.']])
    file.write_text(file.read_text() + "a\tb\n")
    with pytest.raises(ValueError, match="line 3: expected 6 fields between tabs"):
        read(file)


def test_activitynet(tmp_path):
    entry = {"duration": 55.2, "timestamps": [[0.3, 55.2], [0.7, 54.4]], "sentences": [" He skis.", "He falls. "]}
    (tmp_path / "val_1.json").write_text(json.dumps({"v_uqiMw7tQ1Cc": entry, "v_b": entry}))
    paths = videos(tmp_path, "v_uqiMw7tQ1Cc.mp4", "v_b.mp4")
    assert read(tmp_path / "val_1.json") == (paths, [["He skis.", "He falls."]] * 2)
    (tmp_path / "val_1.json").write_text(json.dumps({"v_b": {"duration": 3}}))
    with pytest.raises(ValueError, match="entry v_b: expected an object with the sentences of a video"):
        read(tmp_path / "val_1.json")
