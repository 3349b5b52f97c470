// The families of language models that train_lm and generate know: one row of a table each.
#pragma once

#include <weft/nn/language_model.h>

#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace weft::lm {

// Builds a causal model over bytes by its name in the table, from the options of its own config (a JSON object; absent
// ones keep their defaults), with initial weights drawn from the default generator. Throws weft::Error for an unknown
// name or option, for num_tokens and causal (256 and true), and for options that need more input than bytes or give
// something else than one set of logits a byte.
std::shared_ptr<LanguageModel> make_model(std::string_view name, std::string_view options_json);

// Names for the help text.
std::vector<std::string> model_names();

// Multiplies the initial embeddings and relative position biases. PyTorch's initial embeddings are normal with
// deviation 1; a residual stream that starts that large, and T5 biases that start larger than any score, cost a small
// model much of a short run.
void scale_initial_weights(Module& model, double embedding, double bias);

}  // namespace weft::lm
