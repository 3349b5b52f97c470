// classify_glyphs: a vision transformer that learns to read letters and digits of bitmap fonts, and is asked about
// fonts of other families.
//
//   classify_glyphs                        # minutes on two cores; needs the Debian package xfonts-75dpi
//   classify_glyphs --fonts FOLDER --steps 100
//
// Exit status: 0, 1 for an error or a missed --goal, 2 for a wrong command line.
#include <weft/examples/trained/glyph_program.h>
#include <weft/weft.h>

namespace {

using namespace weft;
using namespace weft::examples;

ViTransformerWrapper make_model(const GlyphOptions& options) {
  return ViTransformerWrapper({
      .image_size = kGlyphSize,
      .patch_size = options.patch,
      .num_classes = kGlyphClasses,
      .channels = 1,
      .attn_layers = make<Encoder>(encoder_layers(options)),
  });
}

int run(const GlyphOptions& options) {
  const GlyphData data = prepare(options);
  ViTransformerWrapper model = make_model(options);
  return learn_and_ask(
      model, options, data, "images of held-out families named right",
      [&](const Tensor& images, const Tensor& labels) { return cross_entropy(model(images), labels); },
      [&](const Tensor& images) {
        std::vector<std::string> names;  // of the likeliest classes
        for (const int64_t cls : argmax(model(images), -1).to_vector<int64_t>()) names.push_back(glyph_name(cls));
        return names;
      });
}

}  // namespace

int main(int argc, char** argv) {
  GlyphOptions options{.training = {.steps = 3000, .lr = 2e-3}};
  CLI::App app("A vision transformer that reads letters and digits of bitmap fonts.", "classify_glyphs");
  options.add_to(app);
  return run_program(app, argc, argv, [&] { return run(options); });
}
