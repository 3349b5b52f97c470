// FLASH, all of it. The models that only this system has are reachable as weft::GAU and so on; parts whose names other
// systems share (rotary embeddings, wrappers) stay in weft::flash.
#pragma once

#include <weft/nn/flash/attention_fn.h>
#include <weft/nn/flash/autoregressive_wrapper.h>
#include <weft/nn/flash/flash.h>
#include <weft/nn/flash/flash_transformer.h>
#include <weft/nn/flash/gau.h>
#include <weft/nn/flash/offset_scale.h>
#include <weft/nn/flash/rotary_embedding.h>
#include <weft/nn/flash/scale_norm.h>
#include <weft/nn/flash/scaled_sinu_embedding.h>
#include <weft/nn/flash/t5_relative_position_bias.h>
#include <weft/nn/flash/token_shift.h>

namespace weft {

using flash::FLASH;
using flash::FLASHConfig;
using flash::FLASHTransformer;
using flash::FLASHTransformerConfig;
using flash::GAU;
using flash::GAUConfig;

}  // namespace weft
