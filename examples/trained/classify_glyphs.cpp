// classify_glyphs: a vision transformer that learns to read letters and digits of bitmap fonts, and is asked about
// fonts of other families.
//
//   classify_glyphs                        # minutes on two cores; needs the Debian package xfonts-75dpi
//   classify_glyphs --fonts FOLDER --steps 100
//
// Exit status: 0, 1 for an error or a missed --goal, 2 for a wrong command line.
#include <weft/examples/trained/glyphs.h>
#include <weft/examples/trained/training.h>
#include <weft/nn/eval_mode.h>
#include <weft/weft.h>

namespace {

using namespace weft;
using namespace weft::examples;

struct Command {
  Training training{.steps = 3000, .lr = 2e-3};
  std::string fonts = kFontFolder;
  int64_t dim = 96, depth = 4, patch = 6;
  double distort = 0.1, dropout = 0.1;

  void add_to(CLI::App& app) {
    training.add_to(app);
    app.add_option("--fonts", fonts, "folder of .pcf or .pcf.gz files")->capture_default_str();
    app.add_option("--dim", dim, "features of a patch")->capture_default_str();
    app.add_option("--depth", depth, "layers")->capture_default_str();
    app.add_option("--patch", patch, "pixels of a patch's side")->capture_default_str();
    app.add_option("--distort", distort, "training images are stretched, slanted and moved by up to this share")
        ->capture_default_str();
    app.add_option("--dropout", dropout, "of attention weights and hidden features")->capture_default_str();
  }
};

ViTransformerWrapper make_model(const Command& command) {
  return ViTransformerWrapper({
      .image_size = kGlyphSize,
      .patch_size = command.patch,
      .num_classes = kGlyphClasses,
      .channels = 1,
      .attn_layers = make<Encoder>({
          .dim = command.dim,
          .depth = command.depth,
          .heads = 4,
          .use_rmsnorm = true,
          .attn_dim_head = 32,
          .attn_dropout = command.dropout,
          .ff_mult = 2,
          .ff_glu = true,
          .ff_dropout = command.dropout,
      }),
  });
}

// The names of the likeliest classes.
std::vector<std::string> names(ViTransformerWrapper& model, const Glyphs& glyphs) {
  const NoGrad guard;
  const EvalMode mode(model);
  std::vector<std::string> all;
  for (const std::vector<int64_t>& numbers : glyphs.batches(256))
    for (const int64_t cls : argmax(model(glyphs.images(numbers)), -1).to_vector<int64_t>())
      all.push_back(glyph_name(cls));
  return all;
}

int run(const Command& command) {
  set_num_threads(static_cast<int>(command.training.threads));
  manual_seed(static_cast<uint64_t>(command.training.seed));
  const GlyphData data = load_glyphs(command.fonts);
  describe(data);
  ViTransformerWrapper model = make_model(command);
  train(model, command.training, [&] {
    const auto numbers = randint(0, data.train.size(), {command.training.batch}).to_vector<int64_t>();
    return cross_entropy(model(data.train.images(numbers, command.distort)), data.train.labels(numbers));
  });
  return report("images of held-out families named right", names(model, data.test), data.test.names(),
                command.training.goal)
             ? 0
             : 1;
}

}  // namespace

int main(int argc, char** argv) {
  Command command;
  CLI::App app("A vision transformer that reads letters and digits of bitmap fonts.", "classify_glyphs");
  command.add_to(app);
  return run_program(app, argc, argv, [&] { return run(command); });
}
