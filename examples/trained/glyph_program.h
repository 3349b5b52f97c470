// What the two programs about glyphs share: their options, and how they learn and are asked.
#pragma once

#include <weft/examples/trained/glyphs.h>
#include <weft/examples/trained/training.h>
#include <weft/nn/xt.h>

namespace weft::examples {

struct GlyphOptions {
  Training training;
  std::string fonts = kFontFolder;
  int64_t dim = 96, depth = 4, patch = 6;
  double distort = 0.1, dropout = 0.1;

  void add_to(CLI::App& app);
};

// Of the vision transformer.
xt::AttentionLayersConfig encoder_layers(const GlyphOptions& options);

// Sets the threads and the seed, loads the images and says what they are.
GlyphData prepare(const GlyphOptions& options);

// Trains on loss(images [b, 1, 24, 24], labels int64 [b]), then takes answer(images), a name for each, of all images of
// held-out families. Returns the exit status, 1 below the goal. what: of report().
int learn_and_ask(Module& model, const GlyphOptions& options, const GlyphData& data, const char* what,
                  const std::function<Tensor(const Tensor& images, const Tensor& labels)>& loss,
                  const std::function<std::vector<std::string>(const Tensor& images)>& answer);

}  // namespace weft::examples
