// caption_glyphs: a vision transformer and a decoder that attends to it learn to write the names of letters and digits,
// "capital a" or "digit seven", and are asked about fonts of other families.
//
//   caption_glyphs                        # minutes on two cores; needs the Debian package xfonts-75dpi
//   caption_glyphs --fonts FOLDER --steps 100
//
// Exit status: 0, 1 for an error or a missed --goal, 2 for a wrong command line.
#include <weft/examples/trained/glyphs.h>
#include <weft/examples/trained/training.h>
#include <weft/nn/eval_mode.h>
#include <weft/weft.h>

#include <algorithm>

namespace {

using namespace weft;
using namespace weft::examples;

// Captions are written in these tokens: three marks, the space and the letters.
constexpr int64_t kPad = 0, kBegin = 1, kEnd = 2, kSpace = 3, kA = 4, kTokens = kA + 26;

struct Command {
  Training training{.steps = 1500, .lr = 2e-3};
  std::string fonts = kFontFolder;
  int64_t dim = 96, depth = 4, decoder_depth = 2, patch = 6;
  double distort = 0.1, dropout = 0.1;

  void add_to(CLI::App& app) {
    training.add_to(app);
    app.add_option("--fonts", fonts, "folder of .pcf or .pcf.gz files")->capture_default_str();
    app.add_option("--dim", dim, "features of a patch and of a letter")->capture_default_str();
    app.add_option("--depth", depth, "layers of the vision transformer")->capture_default_str();
    app.add_option("--decoder-depth", decoder_depth, "layers of the decoder")->capture_default_str();
    app.add_option("--patch", patch, "pixels of a patch's side")->capture_default_str();
    app.add_option("--distort", distort, "training images are stretched, slanted and moved by up to this share")
        ->capture_default_str();
    app.add_option("--dropout", dropout, "of attention weights and hidden features")->capture_default_str();
  }
};

// kBegin, the letters, kEnd, and kPad up to the longest of all names: [n].
std::vector<int64_t> encode(const std::string& name, size_t n) {
  std::vector<int64_t> tokens{kBegin};
  for (const char c : name) tokens.push_back(c == ' ' ? kSpace : kA + c - 'a');
  tokens.push_back(kEnd);
  tokens.resize(n, kPad);
  return tokens;
}

std::string decode(const std::vector<int64_t>& tokens) {
  std::string name;
  for (const int64_t token : tokens) {
    if (token == kEnd) return name;
    name += token == kSpace ? ' ' : token >= kA ? static_cast<char>('a' + token - kA) : '?';
  }
  return name + "...";
}

// Captions of all classes: int64 [62, n].
Tensor all_captions() {
  size_t n = 0;
  for (int64_t cls = 0; cls < kGlyphClasses; ++cls) n = std::max(n, glyph_name(cls).size() + 2);
  std::vector<int64_t> all;
  for (int64_t cls = 0; cls < kGlyphClasses; ++cls) {
    const std::vector<int64_t> caption = encode(glyph_name(cls), n);
    all.insert(all.end(), caption.begin(), caption.end());
  }
  return tensor(all, {kGlyphClasses, static_cast<int64_t>(n)});
}

struct Captioner : Module {
  std::shared_ptr<ViTransformerWrapper> encoder;
  std::shared_ptr<xt::AutoregressiveWrapper> decoder;

  explicit Captioner(const Command& command) {
    xt::AttentionLayersConfig layers{.dim = command.dim,
                                     .depth = command.depth,
                                     .heads = 4,
                                     .use_rmsnorm = true,
                                     .attn_dim_head = 32,
                                     .attn_dropout = command.dropout,
                                     .ff_mult = 2,
                                     .ff_glu = true,
                                     .ff_dropout = command.dropout};
    encoder = make<ViTransformerWrapper>({
        .image_size = kGlyphSize,
        .patch_size = command.patch,
        .channels = 1,
        .attn_layers = make<Encoder>(layers),
    });
    layers.depth = command.decoder_depth, layers.cross_attend = true;
    decoder = make<xt::AutoregressiveWrapper>({
        .net = make<TransformerWrapper>({
            .num_tokens = kTokens,
            .max_seq_len = all_captions().size(1),
            .attn_layers = make<Decoder>(layers),
        }),
        .ignore_index = kPad,
        .pad_value = kPad,
    });
    register_module("encoder", encoder);
    register_module("decoder", decoder);
  }

  // The mean loss of a letter. images: [b, 1, 24, 24]; captions: int64 [b, n]
  Tensor loss(const Tensor& images, const Tensor& captions) const {
    return (*decoder)(captions, {.context = (*encoder)(images, {.return_embeddings = true})});
  }
  std::vector<std::string> write(const Tensor& images) {
    const NoGrad guard;
    const EvalMode mode(*this);
    const Tensor begin = full({images.size(0), 1}, kBegin, {.dtype = int64});
    const Tensor written = decoder->generate(
        begin, decoder->net().max_seq_len() - 1,
        {.eos_token = kEnd, .temperature = 0, .call = {.context = (*encoder)(images, {.return_embeddings = true})}});
    std::vector<std::string> names;
    for (int64_t i = 0; i < written.size(0); ++i) names.push_back(decode(written[i].to_vector<int64_t>()));
    return names;
  }
  std::string name() const override { return "Captioner"; }
};

std::vector<std::string> names(Captioner& model, const Glyphs& glyphs) {
  std::vector<std::string> all;
  for (const std::vector<int64_t>& numbers : glyphs.batches(256))
    for (const std::string& name : model.write(glyphs.images(numbers))) all.push_back(name);
  return all;
}

int run(const Command& command) {
  set_num_threads(static_cast<int>(command.training.threads));
  manual_seed(static_cast<uint64_t>(command.training.seed));
  const GlyphData data = load_glyphs(command.fonts);
  describe(data);
  const Tensor captions = all_captions();
  Captioner model(command);
  train(model, command.training, [&] {
    const auto numbers = randint(0, data.train.size(), {command.training.batch}).to_vector<int64_t>();
    return model.loss(data.train.images(numbers, command.distort),
                      index_select(captions, 0, data.train.labels(numbers)));
  });
  return report("images of held-out families named exactly", names(model, data.test), data.test.names(),
                command.training.goal)
             ? 0
             : 1;
}

}  // namespace

int main(int argc, char** argv) {
  Command command;
  CLI::App app("A vision transformer and a decoder that write the names of letters and digits.", "caption_glyphs");
  command.add_to(app);
  return run_program(app, argc, argv, [&] { return run(command); });
}
