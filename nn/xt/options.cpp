#include <weft/nn/xt/options.h>

namespace weft::xt {

#define WEFT_XT_ROW(P, TYPE, NAME, DEFAULT, DOC, FILE) {WEFT_XT_QUOTED(NAME), #TYPE, #DEFAULT, DOC, "nn/xt/" FILE ".h"},

std::vector<OptionRow> attention_options() { return {WEFT_XT_ATTENTION_OPTIONS(WEFT_XT_ROW, )}; }
std::vector<OptionRow> feed_forward_options() { return {WEFT_XT_FEED_FORWARD_OPTIONS(WEFT_XT_ROW, )}; }
std::vector<OptionRow> attention_layers_options() { return {WEFT_XT_OWN_LAYERS_OPTIONS(WEFT_XT_ROW, )}; }

}  // namespace weft::xt
