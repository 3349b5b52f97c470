#include <weft/examples/trained/glyph_program.h>
#include <weft/nn/eval_mode.h>
#include <weft/weft.h>

namespace weft::examples {

void GlyphOptions::add_to(CLI::App& app) {
  training.add_to(app);
  app.add_option("--fonts", fonts, "folder of .pcf or .pcf.gz files")->capture_default_str();
  app.add_option("--dim", dim, "features of a patch")->capture_default_str();
  app.add_option("--depth", depth, "layers of the vision transformer")->capture_default_str();
  app.add_option("--patch", patch, "pixels of a patch's side")->capture_default_str();
  app.add_option("--distort", distort, "training images are stretched, slanted and moved by up to this share")
      ->capture_default_str();
  app.add_option("--dropout", dropout, "of attention weights and hidden features")->capture_default_str();
}

xt::AttentionLayersConfig encoder_layers(const GlyphOptions& options) {
  return {.dim = options.dim,
          .depth = options.depth,
          .heads = 4,
          .use_rmsnorm = true,
          .attn_dim_head = 32,
          .attn_dropout = options.dropout,
          .ff_mult = 2,
          .ff_glu = true,
          .ff_dropout = options.dropout};
}

GlyphData prepare(const GlyphOptions& options) {
  set_num_threads(static_cast<int>(options.training.threads));
  manual_seed(static_cast<uint64_t>(options.training.seed));
  GlyphData data = load_glyphs(options.fonts);
  describe(data);
  return data;
}

int learn_and_ask(Module& model, const GlyphOptions& options, const GlyphData& data, const char* what,
                  const std::function<Tensor(const Tensor& images, const Tensor& labels)>& loss,
                  const std::function<std::vector<std::string>(const Tensor& images)>& answer) {
  train(model, options.training, [&] {
    const auto numbers = randint(0, data.train.size(), {options.training.batch}).to_vector<int64_t>();
    return loss(data.train.images(numbers, options.distort), data.train.labels(numbers));
  });
  const NoGrad guard;
  const EvalMode mode(model);
  std::vector<std::string> answers;
  for (const std::vector<int64_t>& numbers : data.test.batches(256))
    for (const std::string& name : answer(data.test.images(numbers))) answers.push_back(name);
  return report(what, answers, data.test.names(), options.training.goal) ? 0 : 1;
}

}  // namespace weft::examples
