"""Small models by name: `tiny:NAME` is built from a config alone, with no download.

    TINY["bert"].model_task        # "text-encoder"

Their weights are random, and called so. They have every part of their kind, so that what works
on them works on the published ones, which stand in `known.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """A transformers model from nothing but a config.

    parameters: published count, shared ones once; None where nobody published one
    """

    model_task: str
    model_class: str
    config_class: str
    config: Mapping[str, Any]
    parameters: int | None = None


_ENCODER: dict[str, Any] = {
    "vocab_size": 1024,
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 128,
    "max_position_embeddings": 512,
}
_LLAMA: dict[str, Any] = {
    "vocab_size": 1024,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "tie_word_embeddings": True,
}
_PATCHES: dict[str, Any] = {
    "image_size": 64,
    "patch_size": 8,
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 128,
}
_DETECTOR: dict[str, Any] = {
    "d_model": 64,
    "num_queries": 20,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 128,
    "decoder_ffn_dim": 128,
}
_SWIN: dict[str, Any] = {
    "model_type": "swin",
    "image_size": 64,
    "embed_dim": 16,
    "depths": [1, 1, 1, 1],
    "num_heads": [1, 2, 2, 2],
    "window_size": 2,
    "out_features": ["stage1", "stage2", "stage3", "stage4"],
}
_WAVES: dict[str, Any] = {
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 128,
    "conv_dim": [32, 32, 32, 32, 32, 32, 32],
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
}

TINY: dict[str, Recipe] = {
    "bert": Recipe(
        model_task="text-encoder",
        model_class="BertModel",
        config_class="BertConfig",
        config=_ENCODER,
    ),
    "bert-classifier": Recipe(
        model_task="text-classification",
        model_class="BertForSequenceClassification",
        config_class="BertConfig",
        config={**_ENCODER, "num_labels": 3},
    ),
    "gpt2": Recipe(
        model_task="text-decoder",
        model_class="GPT2LMHeadModel",
        config_class="GPT2Config",
        config={
            "vocab_size": 1024,
            "n_positions": 512,
            "n_embd": 64,
            "n_layer": 2,
            "n_head": 4,
            "bos_token_id": 1,
            "eos_token_id": 1,
        },
    ),
    "llama": Recipe(
        model_task="text-decoder",
        model_class="LlamaForCausalLM",
        config_class="LlamaConfig",
        config=_LLAMA,
    ),
    "t5": Recipe(
        model_task="text-seq2seq",
        model_class="T5ForConditionalGeneration",
        config_class="T5Config",
        config={
            "vocab_size": 1024,
            "d_model": 64,
            "d_kv": 16,
            "d_ff": 128,
            "num_layers": 2,
            "num_heads": 4,
            "decoder_start_token_id": 0,
        },
    ),
    "vit": Recipe(
        model_task="image-classification",
        model_class="ViTForImageClassification",
        config_class="ViTConfig",
        config={**_PATCHES, "num_labels": 10},
    ),
    "resnet": Recipe(
        model_task="image-classification",
        model_class="ResNetForImageClassification",
        config_class="ResNetConfig",
        config={
            "image_size": 64,
            "embedding_size": 16,
            "hidden_sizes": [32, 64, 96, 128],
            "depths": [1, 1, 1, 1],
            "layer_type": "basic",
            "num_labels": 10,
        },
    ),
    "dinov2": Recipe(
        model_task="image-features",
        model_class="Dinov2Model",
        config_class="Dinov2Config",
        config={key: value for key, value in _PATCHES.items() if key != "intermediate_size"},
    ),
    "detr": Recipe(
        model_task="object-detection",
        model_class="DetrForObjectDetection",
        config_class="DetrConfig",
        config={
            **_DETECTOR,
            "image_size": 64,
            "backbone_config": {
                "model_type": "resnet",
                "embedding_size": 16,
                "hidden_sizes": [32, 64, 96, 128],
                "depths": [1, 1, 1, 1],
                "layer_type": "basic",
                "out_features": ["stage4"],
            },
            "num_labels": 10,
        },
    ),
    "yolos": Recipe(
        model_task="object-detection",
        model_class="YolosForObjectDetection",
        config_class="YolosConfig",
        config={
            **_PATCHES,
            "image_size": [64, 64],
            "num_detection_tokens": 10,
            "num_labels": 10,
        },
    ),
    "segformer": Recipe(
        model_task="image-segmentation",
        model_class="SegformerForSemanticSegmentation",
        config_class="SegformerConfig",
        config={
            "image_size": 64,
            "depths": [1, 1, 1, 1],
            "hidden_sizes": [16, 32, 64, 64],
            "num_attention_heads": [1, 2, 4, 4],
            "decoder_hidden_size": 64,
            "num_labels": 10,
        },
    ),
    "maskformer": Recipe(
        model_task="image-segmentation",
        model_class="MaskFormerForInstanceSegmentation",
        config_class="MaskFormerConfig",
        config={
            "image_size": 64,
            "fpn_feature_size": 32,
            "mask_feature_size": 32,
            "backbone_config": _SWIN,
            "decoder_config": {"model_type": "detr", **_DETECTOR},
            "num_labels": 10,
        },
    ),
    "mask2former": Recipe(
        model_task="image-segmentation",
        model_class="Mask2FormerForUniversalSegmentation",
        config_class="Mask2FormerConfig",
        config={
            "image_size": 64,
            "feature_size": 32,
            "mask_feature_size": 32,
            "hidden_dim": 32,
            "encoder_layers": 1,
            "encoder_feedforward_dim": 64,
            "decoder_layers": 2,
            "dim_feedforward": 64,
            "num_attention_heads": 4,
            "num_queries": 10,
            "backbone_config": _SWIN,
            "num_labels": 10,
        },
    ),
    "upernet": Recipe(
        model_task="image-segmentation",
        model_class="UperNetForSemanticSegmentation",
        config_class="UperNetConfig",
        config={
            "image_size": 64,
            "hidden_size": 32,
            "use_auxiliary_head": False,
            "backbone_config": _SWIN,
            "num_labels": 10,
        },
    ),
    "sam": Recipe(
        model_task="image-segmentation",
        model_class="SamModel",
        config_class="SamConfig",
        config={
            # With the usual 0.02 so small a network answers 0.00002 everywhere.
            "initializer_range": 0.1,
            "vision_config": {
                "initializer_range": 0.1,
                "image_size": 64,
                "patch_size": 8,
                "hidden_size": 64,
                "num_hidden_layers": 2,
                "num_attention_heads": 4,
                "mlp_dim": 128,
                "output_channels": 32,
                "window_size": 4,
                "global_attn_indexes": [1],
                "num_pos_feats": 16,
            },
            "prompt_encoder_config": {
                "image_size": 64,
                "patch_size": 8,
                "hidden_size": 32,
                "mask_input_channels": 4,
            },
            "mask_decoder_config": {
                "hidden_size": 32,
                "mlp_dim": 64,
                "num_attention_heads": 4,
                "iou_head_hidden_dim": 32,
            },
        },
    ),
    "sam2": Recipe(
        model_task="image-segmentation",
        model_class="Sam2Model",
        config_class="Sam2Config",
        config={
            "initializer_range": 0.1,
            "vision_config": {
                "model_type": "sam2_vision_model",
                "initializer_range": 0.1,
                "backbone_config": {
                    "model_type": "sam2_hiera_det_model",
                    "initializer_range": 0.1,
                    "image_size": [64, 64],
                    "hidden_size": 16,
                    "blocks_per_stage": [1, 1, 1, 1],
                    "embed_dim_per_stage": [16, 32, 64, 128],
                    "num_attention_heads_per_stage": [1, 1, 2, 2],
                    "window_size_per_stage": [4, 4, 2, 2],
                    "window_positional_embedding_background_size": [4, 4],
                    "global_attention_blocks": [],
                },
                "backbone_channel_list": [128, 64, 32, 16],
                "backbone_feature_sizes": [[16, 16], [8, 8], [4, 4]],
                "fpn_hidden_size": 32,
            },
            "prompt_encoder_config": {
                "image_size": 64,
                "patch_size": 16,
                "hidden_size": 32,
                "mask_input_channels": 4,
            },
            "mask_decoder_config": {
                "hidden_size": 32,
                "mlp_dim": 64,
                "num_attention_heads": 4,
                "iou_head_hidden_dim": 32,
            },
        },
    ),
    "wav2vec2": Recipe(
        model_task="speech-ctc",
        model_class="Wav2Vec2ForCTC",
        config_class="Wav2Vec2Config",
        config=_WAVES,
    ),
    "hubert": Recipe(
        model_task="speech-ctc",
        model_class="HubertForCTC",
        config_class="HubertConfig",
        config=_WAVES,
    ),
    "wav2vec2-classifier": Recipe(
        model_task="speech-classification",
        model_class="Wav2Vec2ForSequenceClassification",
        config_class="Wav2Vec2Config",
        config={**_WAVES, "classifier_proj_size": 32, "num_labels": 5},
    ),
    "whisper": Recipe(
        model_task="speech-seq2seq",
        model_class="WhisperForConditionalGeneration",
        config_class="WhisperConfig",
        config={
            "vocab_size": 1024,
            "num_mel_bins": 80,
            "d_model": 64,
            "encoder_layers": 2,
            "decoder_layers": 2,
            "encoder_attention_heads": 4,
            "decoder_attention_heads": 4,
            "encoder_ffn_dim": 128,
            "decoder_ffn_dim": 128,
            "max_source_positions": 100,  # two seconds: a hundred steps of 20 ms
            "max_target_positions": 128,
            "decoder_start_token_id": 1,
            "bos_token_id": 2,
            "eos_token_id": 2,
            "pad_token_id": 2,
            "begin_suppress_tokens": None,
        },
    ),
    "clip": Recipe(
        model_task="image-text-similarity",
        model_class="CLIPModel",
        config_class="CLIPConfig",
        config={
            "projection_dim": 64,
            "text_config": {
                **_ENCODER,
                "max_position_embeddings": 77,
                "bos_token_id": 1022,
                "eos_token_id": 1023,
                "pad_token_id": 1023,
            },
            "vision_config": _PATCHES,
        },
    ),
    "siglip": Recipe(
        model_task="image-text-similarity",
        model_class="SiglipModel",
        config_class="SiglipConfig",
        config={
            "text_config": {
                **_ENCODER,
                "max_position_embeddings": 64,
                "projection_size": 64,
                "bos_token_id": 1022,
                "eos_token_id": 1023,
                "pad_token_id": 1023,
            },
            "vision_config": _PATCHES,
        },
    ),
    "blip": Recipe(
        model_task="image-captioning",
        model_class="BlipForConditionalGeneration",
        config_class="BlipConfig",
        config={
            "projection_dim": 64,
            "text_config": {
                **_ENCODER,
                "encoder_hidden_size": 64,
                "bos_token_id": 1022,
                "sep_token_id": 102,
            },
            "vision_config": _PATCHES,
        },
    ),
    "llava": Recipe(
        model_task="vision-language",
        model_class="LlavaForConditionalGeneration",
        config_class="LlavaConfig",
        config={
            "image_token_index": 1023,
            "text_config": {"model_type": "llama", **_LLAMA},
            "vision_config": {"model_type": "clip_vision_model", **_PATCHES},
        },
    ),
    "smolvlm": Recipe(
        model_task="vision-language",
        model_class="SmolVLMForConditionalGeneration",
        config_class="SmolVLMConfig",
        config={
            "image_token_id": 1023,
            "scale_factor": 2,
            "text_config": {"model_type": "llama", **_LLAMA, "pad_token_id": 2},
            "vision_config": _PATCHES,
        },
    ),
}
"""By the name after `tiny:`, under two million parameters each."""
