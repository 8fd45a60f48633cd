"""Published models by Hub id with the config they were published with.

    KNOWN["gpt2"].parameters        # 124439808

So `--weights random` builds them with no network, and their architecture can be measured
before anything is downloaded. The chart models stand in `models.catalog`.
"""

from __future__ import annotations

from candlemark.models.inference.tiny import Recipe

KNOWN: dict[str, Recipe] = {
    "bert-base-uncased": Recipe(
        model_task="text-encoder",
        model_class="BertModel",
        config_class="BertConfig",
        config={},
        parameters=109_482_240,
    ),
    "distilbert-base-uncased": Recipe(
        model_task="text-encoder",
        model_class="DistilBertModel",
        config_class="DistilBertConfig",
        config={},
        parameters=66_362_880,
    ),
    "roberta-base": Recipe(
        model_task="text-encoder",
        model_class="RobertaModel",
        config_class="RobertaConfig",
        config={
            "vocab_size": 50265,
            "max_position_embeddings": 514,
            "type_vocab_size": 1,
            "layer_norm_eps": 1e-5,
        },
        parameters=124_645_632,
    ),
    "sentence-transformers/all-MiniLM-L6-v2": Recipe(
        model_task="text-encoder",
        model_class="BertModel",
        config_class="BertConfig",
        config={
            "hidden_size": 384,
            "num_hidden_layers": 6,
            "num_attention_heads": 12,
            "intermediate_size": 1536,
        },
        parameters=22_713_216,
    ),
    "distilbert-base-uncased-finetuned-sst-2-english": Recipe(
        model_task="text-classification",
        model_class="DistilBertForSequenceClassification",
        config_class="DistilBertConfig",
        config={"id2label": {0: "NEGATIVE", 1: "POSITIVE"}},
        parameters=66_955_010,
    ),
    "gpt2": Recipe(
        model_task="text-decoder",
        model_class="GPT2LMHeadModel",
        config_class="GPT2Config",
        config={},
        parameters=124_439_808,
    ),
    "distilgpt2": Recipe(
        model_task="text-decoder",
        model_class="GPT2LMHeadModel",
        config_class="GPT2Config",
        config={"n_layer": 6},
        parameters=81_912_576,
    ),
    "HuggingFaceTB/SmolLM2-135M": Recipe(
        model_task="text-decoder",
        model_class="LlamaForCausalLM",
        config_class="LlamaConfig",
        config={
            "vocab_size": 49152,
            "hidden_size": 576,
            "intermediate_size": 1536,
            "num_hidden_layers": 30,
            "num_attention_heads": 9,
            "num_key_value_heads": 3,
            "max_position_embeddings": 8192,
            "rms_norm_eps": 1e-5,
            "tie_word_embeddings": True,
        },
        parameters=134_515_008,
    ),
    "t5-small": Recipe(
        model_task="text-seq2seq",
        model_class="T5ForConditionalGeneration",
        config_class="T5Config",
        config={"decoder_start_token_id": 0},
        parameters=60_506_624,
    ),
    "facebook/bart-base": Recipe(
        model_task="text-seq2seq",
        model_class="BartForConditionalGeneration",
        config_class="BartConfig",
        config={
            "d_model": 768,
            "encoder_layers": 6,
            "decoder_layers": 6,
            "encoder_attention_heads": 12,
            "decoder_attention_heads": 12,
            "encoder_ffn_dim": 3072,
            "decoder_ffn_dim": 3072,
            "decoder_start_token_id": 2,
        },
        parameters=139_420_416,
    ),
    "facebook/dinov2-small": Recipe(
        model_task="image-features",
        model_class="Dinov2Model",
        config_class="Dinov2Config",
        config={
            "hidden_size": 384,
            "num_attention_heads": 6,
            "image_size": 518,
            "patch_size": 14,
        },
        parameters=22_056_576,
    ),
    "facebook/dinov2-base": Recipe(
        model_task="image-features",
        model_class="Dinov2Model",
        config_class="Dinov2Config",
        config={"image_size": 518, "patch_size": 14},
        parameters=86_580_480,
    ),
    "hustvl/yolos-tiny": Recipe(
        model_task="object-detection",
        model_class="YolosForObjectDetection",
        config_class="YolosConfig",
        config={
            "hidden_size": 192,
            "num_attention_heads": 3,
            "intermediate_size": 768,
            "image_size": [800, 1333],
            "use_mid_position_embeddings": False,
            "num_labels": 91,
        },
        parameters=6_488_736,
    ),
    "nvidia/mit-b0": Recipe(
        model_task="image-classification",
        model_class="SegformerForImageClassification",
        config_class="SegformerConfig",
        config={"image_size": 224, "num_labels": 1000},
    ),
    "microsoft/swinv2-base-patch4-window12-192-22k": Recipe(
        model_task="image-classification",
        model_class="Swinv2ForImageClassification",
        config_class="Swinv2Config",
        config={
            "image_size": 192,
            "embed_dim": 128,
            "depths": [2, 2, 18, 2],
            "num_heads": [4, 8, 16, 32],
            "window_size": 12,
            "num_labels": 21841,
        },
    ),
    "nvidia/segformer-b0-finetuned-ade-512-512": Recipe(
        model_task="image-segmentation",
        model_class="SegformerForSemanticSegmentation",
        config_class="SegformerConfig",
        config={"num_labels": 150},
        parameters=3_752_694,
    ),
    "facebook/sam-vit-base": Recipe(
        model_task="image-segmentation",
        model_class="SamModel",
        config_class="SamConfig",
        config={"vision_config": {}, "prompt_encoder_config": {}, "mask_decoder_config": {}},
    ),
    "facebook/sam2.1-hiera-tiny": Recipe(
        model_task="image-segmentation",
        model_class="Sam2Model",
        config_class="Sam2Config",
        config={},
    ),
    "facebook/wav2vec2-base-960h": Recipe(
        model_task="speech-ctc",
        model_class="Wav2Vec2ForCTC",
        config_class="Wav2Vec2Config",
        config={},
        parameters=94_396_320,
    ),
    "openai/whisper-tiny": Recipe(
        model_task="speech-seq2seq",
        model_class="WhisperForConditionalGeneration",
        config_class="WhisperConfig",
        config={"vocab_size": 51865, "decoder_start_token_id": 50258},
        parameters=37_760_640,
    ),
    "openai/whisper-base": Recipe(
        model_task="speech-seq2seq",
        model_class="WhisperForConditionalGeneration",
        config_class="WhisperConfig",
        config={
            "vocab_size": 51865,
            "d_model": 512,
            "encoder_layers": 6,
            "decoder_layers": 6,
            "encoder_attention_heads": 8,
            "decoder_attention_heads": 8,
            "encoder_ffn_dim": 2048,
            "decoder_ffn_dim": 2048,
            "decoder_start_token_id": 50258,
        },
        parameters=72_593_920,
    ),
    "MIT/ast-finetuned-audioset-10-10-0.4593": Recipe(
        model_task="speech-classification",
        model_class="ASTForAudioClassification",
        config_class="ASTConfig",
        config={"num_labels": 527},
    ),
    "openai/clip-vit-base-patch32": Recipe(
        model_task="image-text-similarity",
        model_class="CLIPModel",
        config_class="CLIPConfig",
        config={"text_config": {}, "vision_config": {}},
        parameters=151_277_313,
    ),
    "google/siglip-base-patch16-224": Recipe(
        model_task="image-text-similarity",
        model_class="SiglipModel",
        config_class="SiglipConfig",
        config={
            "text_config": {"bos_token_id": None, "eos_token_id": 1, "pad_token_id": 1},
            "vision_config": {},
        },
        parameters=203_155_970,
    ),
    "Salesforce/blip-image-captioning-base": Recipe(
        model_task="image-captioning",
        model_class="BlipForConditionalGeneration",
        config_class="BlipConfig",
        config={"text_config": {}, "vision_config": {}},
        parameters=223_971_644,  # 247,414,076 where the shared word table counts twice
    ),
    "HuggingFaceTB/SmolVLM-256M-Instruct": Recipe(
        model_task="vision-language",
        model_class="Idefics3ForConditionalGeneration",
        config_class="Idefics3Config",
        config={
            "image_token_id": 49190,
            "scale_factor": 4,
            "text_config": {
                "model_type": "llama",
                "vocab_size": 49280,
                "hidden_size": 576,
                "intermediate_size": 1536,
                "num_hidden_layers": 30,
                "num_attention_heads": 9,
                "num_key_value_heads": 3,
                "max_position_embeddings": 8192,
                "rms_norm_eps": 1e-5,
                "pad_token_id": 2,
            },
            "vision_config": {
                "hidden_size": 768,
                "num_hidden_layers": 12,
                "num_attention_heads": 12,
                "intermediate_size": 3072,
                "image_size": 512,
                "patch_size": 16,
            },
        },
        parameters=256_484_928,
    ),
}
"""By Hub id."""

ALIASES: dict[str, str] = {
    "google-bert/bert-base-uncased": "bert-base-uncased",
    "distilbert/distilbert-base-uncased": "distilbert-base-uncased",
    "distilbert/distilbert-base-uncased-finetuned-sst-2-english": (
        "distilbert-base-uncased-finetuned-sst-2-english"
    ),
    "distilbert/distilgpt2": "distilgpt2",
    "FacebookAI/roberta-base": "roberta-base",
    "openai-community/gpt2": "gpt2",
    "google-t5/t5-small": "t5-small",
}
"""Full Hub ids of models that everybody calls by their short name."""
