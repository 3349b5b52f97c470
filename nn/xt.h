// x-transformers, all of it. What only this system has is reachable as weft::Decoder and so on; parts whose names
// others share (norms, rotary embeddings, autoregressive wrappers) stay in weft::xt.
#pragma once

#include <weft/nn/xt/attention_layers.h>
#include <weft/nn/xt/autoregressive_wrapper.h>
#include <weft/nn/xt/continuous.h>
#include <weft/nn/xt/dpo.h>
#include <weft/nn/xt/multi_input.h>
#include <weft/nn/xt/neo_mlp.h>
#include <weft/nn/xt/next_token.h>
#include <weft/nn/xt/nonautoregressive_wrapper.h>
#include <weft/nn/xt/transformer_wrapper.h>
#include <weft/nn/xt/vit.h>
#include <weft/nn/xt/x_transformer.h>
#include <weft/nn/xt/xl_autoregressive_wrapper.h>
#include <weft/nn/xt/xval.h>

namespace weft {

using xt::ContinuousAutoregressiveWrapper;
using xt::ContinuousTransformerWrapper;
using xt::CrossAttender;
using xt::Decoder;
using xt::DPO;
using xt::Encoder;
using xt::make;
using xt::MultiInputTransformerWrapper;
using xt::NeoMLP;
using xt::NonAutoregressiveWrapper;
using xt::PrefixDecoder;
using xt::TransformerWrapper;
using xt::ViTransformerWrapper;
using xt::XLAutoregressiveWrapper;
using xt::XTransformer;
using xt::XValAutoregressiveWrapper;
using xt::XValTransformerWrapper;

}  // namespace weft
