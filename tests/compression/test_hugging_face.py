"""Networks of Hugging Face, tiny and with random weights, compressed as they are."""

import copy

import pytest
import torch

import pyro_sws as sws
from pyro_sws.compression.network_reading import reading_of
from pyro_sws.inference.batch_reading import Reading, read_by
from pyro_sws.inference.evaluation import evaluate

transformers = pytest.importorskip("transformers")

N, TOKENS, WORDS = 12, 9, 23
GENERATOR = torch.Generator().manual_seed(0)
IDS = torch.randint(3, WORDS, (N, TOKENS), generator=GENERATOR)
MASK = torch.ones(N, TOKENS, dtype=torch.long)
MASK[:, 7:] = 0
CLASSES = torch.randint(3, (N,), generator=GENERATOR)
IMAGES = torch.randn(N, 3, 16, 16, generator=GENERATOR)
SIZES = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
}
# Values that stay, around zero and far from it: not all is 0 after a step.
PRIOR = sws.SpikeAndSlabs(slabs=14, zero_proportion=0.1, spike_precision=1e5, slab_precision=1e4)


def bert():
    config = transformers.BertConfig(vocab_size=WORDS, num_labels=3, **SIZES)
    batch = {"input_ids": IDS, "attention_mask": MASK, "labels": CLASSES}
    return transformers.BertForSequenceClassification(config), batch


def gpt2():
    config = transformers.GPT2Config(
        vocab_size=WORDS, n_positions=16, n_embd=16, n_layer=2, n_head=2, bos_token_id=0
    )
    batch = {"input_ids": IDS, "attention_mask": MASK, "labels": IDS.masked_fill(MASK == 0, -100)}
    return transformers.GPT2LMHeadModel(config), batch


def llama():
    config = transformers.LlamaConfig(vocab_size=WORDS, num_key_value_heads=1, **SIZES)
    return transformers.LlamaForCausalLM(config), {"input_ids": IDS, "labels": IDS.clone()}


def whisper():
    config = transformers.WhisperConfig(
        vocab_size=WORDS,
        num_mel_bins=8,
        d_model=16,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=32,
        decoder_ffn_dim=32,
        max_source_positions=10,
        max_target_positions=12,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        decoder_start_token_id=1,
    )
    sounds = torch.randn(N, 8, 20, generator=torch.Generator().manual_seed(1))
    net = transformers.WhisperForConditionalGeneration(config)
    return net, {"input_features": sounds, "labels": IDS}


def vit():
    config = transformers.ViTConfig(image_size=16, patch_size=8, num_labels=3, **SIZES)
    return transformers.ViTForImageClassification(config), {
        "pixel_values": IMAGES,
        "labels": CLASSES,
    }


def resnet():
    config = transformers.ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic", num_labels=3
    )
    return transformers.ResNetForImageClassification(config), {
        "pixel_values": IMAGES,
        "labels": CLASSES,
    }


def wav2vec2():
    config = transformers.Wav2Vec2Config(
        vocab_size=WORDS,
        conv_dim=(8, 8),
        conv_stride=(5, 2),
        conv_kernel=(10, 3),
        num_feat_extract_layers=2,
        num_conv_pos_embeddings=4,
        num_conv_pos_embedding_groups=2,
        num_labels=3,
        classifier_proj_size=8,
        **SIZES,
    )
    sounds = torch.randn(N, 400, generator=torch.Generator().manual_seed(1))
    net = transformers.Wav2Vec2ForSequenceClassification(config)
    return net, {"input_values": sounds, "labels": CLASSES}


def logits(net, batch):
    inputs = {name: t for name, t in batch.items() if name != "labels"}
    if net.config.is_encoder_decoder:
        inputs = batch
    with torch.no_grad():
        return net.eval()(**inputs).logits


def slow(made):
    return pytest.param(made, marks=pytest.mark.slow)


@pytest.mark.integration
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "made",
    [bert, gpt2, whisper, *(slow(made) for made in (llama, vit, resnet, wav2vec2))],
)
def test_it_goes_in_as_it_is_and_the_loaded_one_computes_what_the_quantised_one_does(made):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net, batch = made()
    with torch.no_grad():  # as trained: an initialised one's outputs hardly depend on its inputs
        for parameter in net.parameters():
            parameter.mul_(3) if parameter.dim() > 1 else parameter
    given = copy.deepcopy(net.state_dict())
    batches = [{name: t[i : i + 6] for name, t in batch.items()} for i in (0, 6)]
    likelihood = sws.Categorical(ignore_index=-100)
    run = sws.compress(net, batches, prior=PRIOR, likelihood=likelihood, epochs=1, tau=1e-6)
    assert all(torch.equal(given[name], t) for name, t in net.state_dict().items())

    loaded, quantised = sws.load(run.data, into=net), sws.load(sws.encode(run.quantized), into=net)
    found, wanted = logits(loaded, batch), logits(quantised, batch)
    assert wanted.abs().max() > 1e-2 and wanted.isfinite().all()
    assert not torch.allclose(wanted[:1].expand_as(wanted), wanted)
    assert (found - wanted).abs().max() <= 1e-5 * wanted.abs().max()

    targets, outputs = batch["labels"], found
    if made in (gpt2, llama):  # each output is for the token after it
        targets, outputs = targets[:, 1:], outputs[:, :-1]
    counted = targets != -100
    wrong = 100 * (outputs.argmax(-1) != targets)[counted].double().mean().item()
    assert run.report.score["decoded"] == pytest.approx(wrong)


HIDDEN = torch.rand(N, TOKENS, generator=torch.Generator().manual_seed(2)) < 0.3
SMALL = {"vocab_size": WORDS, "d_model": 16}


def t5_that_copies():
    config = transformers.T5Config(
        d_kv=8, d_ff=32, num_layers=1, num_heads=2, decoder_start_token_id=0, **SMALL
    )
    return transformers.T5ForConditionalGeneration(config), {"input_ids": IDS, "labels": IDS}


def bart_decoder():
    """Named a causal model, whose loss all the same does not shift its labels."""
    config = transformers.BartConfig(
        decoder_layers=1, decoder_attention_heads=2, decoder_ffn_dim=32, is_decoder=True, **SMALL
    )
    return transformers.BartForCausalLM(config), {"input_ids": IDS, "labels": IDS}


def masked_bert_of_kept_tokens():
    net = transformers.BertForMaskedLM(transformers.BertConfig(vocab_size=WORDS, **SIZES))
    return net, {"input_ids": IDS, "labels": IDS.masked_fill(~HIDDEN, -100)}


def gpt2_of_corrupted_tokens():
    net, _ = gpt2()
    return net, {"input_ids": IDS.masked_fill(HIDDEN, 2), "labels": IDS}


def slow(made):
    return pytest.param(made, marks=pytest.mark.slow)


@pytest.mark.integration
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "made", [t5_that_copies, bart_decoder, masked_bert_of_kept_tokens, gpt2_of_corrupted_tokens]
)
def test_labels_are_of_the_outputs_that_the_models_own_loss_takes_them_for(made):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net, batch = made()
        with torch.no_grad():
            for parameter in net.parameters():
                parameter.add_(0.4 * torch.randn_like(parameter))
            wanted = net.eval()(**batch).loss.item()
    reading = reading_of(net.train(), Reading(), [batch])
    assert net.training
    model = sws.joint(net, PRIOR, sws.Categorical(score="nll", ignore_index=-100), N)
    found = evaluate(model, {}, read_by([batch], reading), model.start(), "train").score
    assert found == pytest.approx(wanted, rel=1e-5)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_compress_reads_labels_as_the_models_own_loss_does():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net, batch = masked_bert_of_kept_tokens()
        with torch.no_grad():
            wanted = net.eval()(**batch).loss.item()
    likelihood = sws.Categorical(score="nll", ignore_index=-100)
    run = sws.compress(net, [batch], prior=PRIOR, likelihood=likelihood, epochs=1, tau=1e-6)
    assert run.report.score["before"] == pytest.approx(wanted, rel=1e-5)


@pytest.mark.integration
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("shape", [(N,), (N, 1)], ids=str)
def test_a_head_of_one_number_takes_labels_as_its_own_loss_does(shape):
    """The mean squared error of Hugging Face's own regression."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = transformers.BertConfig(vocab_size=WORDS, num_labels=1, **SIZES)
        net = transformers.BertForSequenceClassification(config).eval()
        batch = {"input_ids": IDS, "labels": torch.randn(shape)}
    with torch.no_grad():
        wanted = net(**batch).loss.item()
    model = sws.joint(net, PRIOR, "gaussian", N)
    found = evaluate(model, {}, read_by([batch], Reading()), model.start(), "train").score
    assert found**2 == pytest.approx(wanted, rel=1e-5)
