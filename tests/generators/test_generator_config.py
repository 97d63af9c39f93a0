import pytest

from reid_aug.config import (
    GeneratorConfig,
    PidmConfig,
    PocoldConfig,
    StudyConfig,
    build_config,
    load_config,
    save_config,
)
from reid_aug.errors import ConfigError


@pytest.mark.parametrize("model", [{}, {"channels": [16, 32], "texture_levels": [1]}])
def test_a_model_without_a_system_is_pidm(model):
    assert isinstance(build_config(GeneratorConfig, {"model": model}).model, PidmConfig)
    assert build_config(GeneratorConfig, {}).model == PidmConfig()


def test_the_system_chooses_the_class_and_survives_saving(tmp_path):
    config = build_config(GeneratorConfig, {}, ["model.system=pocold", "model.heads=4"])
    assert config.model == PocoldConfig(heads=4)
    save_config(config, tmp_path / "config.yaml")
    assert load_config(GeneratorConfig, tmp_path / "config.yaml") == config


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({"system": "pixdm"}, r"`model`: .*'pixdm'.*'pidm', 'pocold'"),
        ({"heds": 1}, r"unknown key `model\.heds`\. Remove it or use one of: .*heads.*heatmap_sigma"),
        ({"system": "pocold", "heatmap_sigma": 1}, r"unknown key `model\.heatmap_sigma`.*attention_rows"),
        ({"system": "pocold", "heads": 0}, r"`model\.heads`: .*greater than 0"),
        ({"system": "pocold", "channels": [16, 0]}, r"`model\.channels\.1`: .*greater than 0"),
        (3, r"`model`: .*\(got 3\)"),
    ],
)
def test_errors_name_the_field_as_the_file_does(model, message):
    with pytest.raises(ConfigError, match=message):
        build_config(GeneratorConfig, {"model": model})


def test_errors_inside_sections_by_name():
    with pytest.raises(ConfigError, match=r"unknown key `arms\.warp\.image`.*one of: images, generator"):
        build_config(StudyConfig, {"arms": {"standard": {}, "warp": {"image": "warp"}}})
    values = {"generators": {"mine": {"config": {"model": {"system": "pocold", "rows": 3}}}}}
    with pytest.raises(ConfigError, match=r"unknown key `generators\.mine\.config\.model\.rows`.*attention_rows"):
        build_config(StudyConfig, values)
