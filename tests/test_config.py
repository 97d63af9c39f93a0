from __future__ import annotations

import pytest
import tiny_configs
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from reid_aug.config import (
    ArmConfig,
    AugmentConfig,
    Config,
    GeneratorConfig,
    ReidConfig,
    ScheduleConfig,
    StudyConfig,
    build_config,
    load_config,
    save_config,
)
from reid_aug.errors import ConfigError

EVERY = [AugmentConfig, GeneratorConfig, ReidConfig, ScheduleConfig, StudyConfig]


def write(path, text: str):
    path = path / "config.yaml"
    path.write_text(text, encoding="utf-8")
    return path


# --- reading ------------------------------------------------------------------------------------------------------


def test_a_file_states_only_what_differs(tmp_path):
    config = load_config(ReidConfig, write(tmp_path, "training:\n  iterations: 800\n"))
    assert config.training.iterations == 800
    assert config.model == ReidConfig().model
    assert load_config(ReidConfig, write(tmp_path, "# nothing\n")) == ReidConfig()


def test_a_configuration_cannot_be_changed():
    with pytest.raises(ValidationError, match="frozen"):
        ReidConfig().training = None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("trainig: {}", r"config\.yaml: unknown key `trainig`\. Remove it or use one of: model, loss, augmentation"),
        ("training: {iteratons: 3}", r"unknown key `training\.iteratons`.*one of: iterations, epochs"),
        ("training: {iterations: many}", r"`training\.iterations`: .*integer.*\(got 'many'\)"),
        ("training: {iterations: 0}", r"`training\.iterations`: .*greater than 0 \(got 0\)"),
        ("training: 3", r"`training`: .*\(got 3\)"),
        ("augmentation: {erasing_area: [0.5, 0.1]}", r"`augmentation\.erasing_area`: .*smallest <= largest"),
        ("model: {image_size: [256]}", r"`model\.image_size"),
        ("training: {epochs: 3, iterations: 4}", r"`training`: .*keep one"),
        ("- 1\n- 2", r"config\.yaml: holds a list, expected `key: value` lines"),
        ("a: [1", r"config\.yaml: not YAML: .*line"),
    ],
)
def test_what_is_wrong_is_named_with_its_field(tmp_path, text, message):
    with pytest.raises(ConfigError, match=r"(?s)" + message):
        load_config(ReidConfig, write(tmp_path, text))


def test_every_problem_has_its_line():
    with pytest.raises(ConfigError) as error:
        build_config(ReidConfig, {"model": {"neck": "perhaps"}, "training": {"images": -1}, "lost": {}})
    assert len(str(error.value).splitlines()) == 3


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(ConfigError, match=r"none\.yaml: cannot be read \(No such file"):
        load_config(ReidConfig, tmp_path / "none.yaml")
    (tmp_path / "model.yaml").write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(ConfigError, match=r"model\.yaml: not (UTF-8|YAML)"):
        load_config(ReidConfig, tmp_path / "model.yaml")


def test_an_unknown_key_inside_an_arm():
    arms = {"standard": {}, "mixed": {"images": "warp", "schedule": {"policy": "concat", "wieght": 2}}}
    with pytest.raises(ConfigError, match=r"unknown key `arms\.mixed\.schedule\.wieght`.*one of: policy, .*weight"):
        build_config(StudyConfig, {"arms": arms})
    with pytest.raises(ConfigError, match=r"unknown key `arms\.mixed\.image`.*one of: images, generator, augment"):
        build_config(StudyConfig, {"arms": {"standard": {}, "mixed": {"image": "warp"}}})


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"reid": {"training": {"seed": 3}}}, "reid.training.seed"),
        ({"arms": {"standard": {"augment": {"seed": 3}}}}, "arms.standard.augment.seed"),
    ],
)
def test_a_study_has_seeds_and_its_parts_none(values, field):
    with pytest.raises(ConfigError, match=f"`{field}`: every cell takes the seed of its subset; give `seeds`"):
        build_config(StudyConfig, values)


@pytest.mark.parametrize("kind", [GeneratorConfig, ReidConfig])
def test_a_seed_is_not_negative(kind):
    with pytest.raises(ConfigError, match=r"`training\.seed`: .*greater than or equal to 0 \(got -1\)"):
        build_config(kind, {}, ["training.seed=-1"])


# --- overrides ----------------------------------------------------------------------------------------------------


def test_overrides_reach_into_sections_that_the_file_does_not_have(tmp_path):
    path = write(tmp_path, "training: {iterations: 10, images: 2}\n")
    config = load_config(
        ReidConfig, path, ["training.iterations=800", "model.image_size=[64, 32]", "loss.triplet_margin=null"]
    )
    assert (config.training.iterations, config.training.images) == (800, 2)
    assert config.model.image_size == (64, 32)
    assert config.loss.triplet_margin is None


def test_the_last_override_wins_and_the_values_given_stay_as_they_were():
    values = {"training": {"iterations": 5}}
    config = build_config(ReidConfig, values, ["training.iterations=6", "training.iterations=7"])
    assert config.training.iterations == 7
    assert values == {"training": {"iterations": 5}}


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("training.iterations", r"override 'training\.iterations': expected key\.sub_key=value"),
        ("=3", "expected key.sub_key=value"),
        ("training..iterations=3", "expected key.sub_key=value"),
        ("training.iterations=[", r"'\[' is not a YAML value"),
        ("training.iterations.deep=3", "iterations is a value, not a section"),
        ("training.iteratons=3", r"unknown key `training\.iteratons`"),
        ("training.iterations=few", r"`training\.iterations`"),
    ],
)
def test_overrides_that_cannot_be_applied(override, message):
    with pytest.raises(ConfigError, match=message):
        build_config(ReidConfig, {"training": {"iterations": 5}}, [override])


@pytest.mark.parametrize("kind", [GeneratorConfig, ReidConfig])
def test_no_precision_is_no_however_yaml_reads_it(kind, tmp_path):
    assert build_config(kind, {}, ["training.precision=no"]).training.precision == "no"
    assert load_config(kind, write(tmp_path, "training: {precision: no}\n")).training.precision == "no"
    with pytest.raises(ConfigError, match=r"`training\.precision`: .*\(got True\)"):
        build_config(kind, {}, ["training.precision=yes"])


@given(st.integers(1, 10**6), st.floats(1e-6, 1.0), st.booleans(), st.text("abcxyz_", min_size=1))
def test_an_override_is_the_value_it_spells(iterations, rate, neck, backbone):
    config = build_config(
        ReidConfig,
        {},
        [
            f"training.iterations={iterations}",
            f"training.learning_rate={rate!r}",
            f"model.neck={yaml.safe_dump(neck)}",
            f"model.backbone='{backbone}'",
        ],
    )
    assert (config.training.iterations, config.model.neck, config.model.backbone) == (iterations, neck, backbone)
    assert config.training.learning_rate == rate


@settings(max_examples=40)
@given(st.dictionaries(st.text(), st.recursive(st.none() | st.integers() | st.text(), st.lists)))
def test_whatever_a_file_holds_is_an_error_or_a_configuration(values):
    try:
        assert isinstance(build_config(ReidConfig, values), ReidConfig)
    except ConfigError as error:
        assert str(error).startswith("config: ")


# --- writing ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", EVERY)
def test_what_is_saved_is_read_again(kind: type[Config], tmp_path):
    save_config(kind(), tmp_path / "config.yaml")
    assert load_config(kind, tmp_path / "config.yaml") == kind()
    assert [path.name for path in tmp_path.iterdir()] == ["config.yaml"]


def test_a_whole_study_is_read_again(tmp_path):
    save_config(tiny_configs.study(), tmp_path / "study.yaml")
    assert load_config(StudyConfig, tmp_path / "study.yaml") == tiny_configs.study()


# --- what does not fit together -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"images": "generator", "schedule": {"policy": "concat"}}, "`generator` names one of the study's"),
        ({"images": "inpaint", "schedule": {"policy": "concat"}}, "exactly where `images` is generator or inpaint"),
        ({"images": "warp", "generator": "pidm", "schedule": {"policy": "concat"}}, "`generator` names one"),
        ({"images": "warp"}, r"`schedule\.policy` is none exactly where `images` is none"),
        ({"schedule": {"policy": "concat"}}, r"`schedule\.policy` is none exactly"),
    ],
)
def test_arms_that_contradict_themselves(values, message):
    with pytest.raises(ConfigError, match=message):
        build_config(ArmConfig, values)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"arms": {"plain": {}}}, "`arms` needs `standard`"),
        ({"arms": {"standard": tiny_configs.ARMS["warp"]}}, "`arms` needs `standard`"),
        ({"generators": {}}, r"`arms\.own\.generator` 'own' is not among `generators`"),
        ({"generators": {"own": {}, "whole": {}}}, "give either `folder`"),
        ({"generators": {"own": {"config": {}, "sees": "other"}, "whole": {}}}, "`sees` other is for a trained"),
        ({"generators": {"own": {"folder": "x"}, "whole": {}}}, r"`folder` has learnt from: `sees` subset, train or"),
        (
            {"generators": {"own": {"config": {"training": {"seed": 3}}}, "whole": {"config": {}, "sees": "train"}}},
            r"`config\.training\.seed`: a subset's generator takes the seed of its subset",
        ),
        ({"fractions": [0]}, r"`fractions\.0`: .*greater than 0 \(got 0\)"),
        ({"fractions": [0.5, 1.5]}, r"`fractions\.1`: .*less than or equal to 1 \(got 1\.5\)"),
        ({"seeds": [0, -1]}, r"`seeds\.1`: .*greater than or equal to 0 \(got -1\)"),
        ({"reid": {"training": {"epochs": 3}}}, r"`reid\.training\.epochs` depends on the fraction"),
    ],
)
def test_studies_that_contradict_themselves(changes, message):
    with pytest.raises(ConfigError, match=message):
        tiny_configs.study(**changes)
