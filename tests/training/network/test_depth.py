import pytest

from canopy_search.training.network.backbones import heads_of, meta_backbone
from canopy_search.training.network.depth import layers_above

LAYERS = {
    "tinycnn_8": 4,
    "tinyresnet_8": 4,
    "resnet18": 9,  # stem and eight blocks
    "vit_b_16": 13,  # patches and twelve blocks
    "swin_t": 16,  # patches, twelve blocks, three mergings
    "convnext_tiny": 22,  # patches, eighteen blocks, three reductions
    "vgg11_bn": 10,
    "squeezenet1_1": 9,
    "mobilenet_v3_small": 14,
    "efficientnet_b0": 18,
}


@pytest.mark.parametrize("name", LAYERS)
def test_layers_are_counted_down_to_the_head(name: str):
    network = meta_backbone(name, labels=5, image_px=64)
    [(head_name, head)] = heads_of(network)
    above = layers_above(network, [head])
    of = dict(zip((each for each, _ in network.named_parameters()), above, strict=True))

    assert max(above) == LAYERS[name]
    assert set(above) == set(range(LAYERS[name] + 1))
    assert {each for each, layer in of.items() if layer == 0} == {
        f"{head_name}.{each}" for each, _ in head.named_parameters()
    }


def test_norms_belong_to_the_layer_below_and_embeddings_to_the_first():
    network = meta_backbone("vit_b_16", labels=5, image_px=64)
    above = layers_above(network, [head for _, head in heads_of(network)])
    of = dict(zip((each for each, _ in network.named_parameters()), above, strict=True))

    assert of["class_token"] == of["encoder.pos_embedding"] == of["conv_proj.weight"] == 13
    assert of["encoder.ln.weight"] == of["encoder.layers.encoder_layer_11.mlp.0.weight"] == 1
