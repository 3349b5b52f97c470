// Choosing the next byte from a model's logits, and writing text with it.
#pragma once

#include <weft/nn/data/text.h>
#include <weft/nn/language_model.h>
#include <weft/ops/random.h>

#include <functional>
#include <span>

namespace weft::lm {

struct SamplingConfig {
  double temperature = 0.8;  // 0: always the likeliest
  int64_t top_k = 0;         // only the k likeliest; 0: all
  double top_p = 1;          // only the likeliest that together reach this probability
};

// Throws weft::Error for values that make no sense, naming the option as the command line spells it.
void validate(const SamplingConfig& config);

// An index of `logits`, drawn from softmax(logits / temperature) within top_k and top_p. Equal logits count as the
// lower index first. Takes two words of the generator, whatever the outcome.
int64_t sample_token(std::span<const float> logits, const SamplingConfig& config, Generator& generator);

// The model's logits of the byte after `bytes`; nothing is recorded. `bytes` must not be empty.
std::vector<float> next_logits(const LanguageModel& model, std::span<const uint8_t> bytes);

// Continues `text` by `length` bytes, each handed to `emit` as soon as it is known. The model sees the last `context`
// bytes. An empty text begins after a newline.
void generate(const LanguageModel& model, data::Bytes text, int64_t length, int64_t context,
              const SamplingConfig& config, Generator& generator, const std::function<void(uint8_t)>& emit);

}  // namespace weft::lm
