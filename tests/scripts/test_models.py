"""scripts/models.py: the list, one card, and a name of nothing."""

import json


def test_the_list_has_a_line_for_each_and_a_card_says_all(call_script):
    from zoo.pretrained import torchvision_weights

    ran = call_script("models")
    assert ran.status == 0, ran.err
    lines = {line.split()[0]: line for line in ran.out.splitlines()[1:]}
    assert set(torchvision_weights.names()) <= set(lines)
    assert (
        "MobileNetV2  ImageNet-1K  accuracy 0.7188 (torchvision's figure)"
        in lines["MobileNet_V2_Weights.IMAGENET1K_V1"]
    )
    ran = call_script("models", "ResNet18_Weights.IMAGENET1K_V1")
    card = dict(line.split(None, 1) for line in ran.out.splitlines())
    assert (card["sha256"], card["parameters"]) == ("f37072fd...", "11689512")
    assert json.loads(card["sizes"]) == {"depth": 18, "in_channels": 3, "num_classes": 1000}


def test_a_name_of_nothing_is_one_line(call_script):
    ran = call_script("models", "ResNet18_Weights.IMAGENET1K_V9")
    assert ran.status == 2
    assert "did you mean 'ResNet18_Weights.IMAGENET1K_V1'" in ran.err
