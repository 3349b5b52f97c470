#include <weft/nn/xt/options.h>

namespace weft::xt {

#define WEFT_XT_ROW(P, TYPE, NAME, DEFAULT, DOC, FILE) {WEFT_XT_QUOTED(NAME), #TYPE, #DEFAULT, DOC, "nn/xt/" FILE ".h"},

std::vector<OptionRow> attention_options() { return {WEFT_XT_ATTENTION_OPTIONS(WEFT_XT_ROW, )}; }
std::vector<OptionRow> feed_forward_options() { return {WEFT_XT_FEED_FORWARD_OPTIONS(WEFT_XT_ROW, )}; }
std::vector<OptionRow> attention_layers_options() { return {WEFT_XT_OWN_LAYERS_OPTIONS(WEFT_XT_ROW, )}; }

std::vector<OptionRow> transformer_wrapper_options() { return {WEFT_XT_TRANSFORMER_WRAPPER_OPTIONS(WEFT_XT_ROW, )}; }
std::vector<OptionRow> multi_input_options() { return {WEFT_XT_MULTI_INPUT_OPTIONS(WEFT_XT_ROW, )}; }
std::vector<OptionRow> continuous_options() { return {WEFT_XT_CONTINUOUS_OPTIONS(WEFT_XT_ROW, )}; }
std::vector<OptionRow> xval_options() { return {WEFT_XT_XVAL_OPTIONS(WEFT_XT_ROW, )}; }
std::vector<OptionRow> vit_options() { return {WEFT_XT_VIT_OPTIONS(WEFT_XT_ROW, )}; }

}  // namespace weft::xt
