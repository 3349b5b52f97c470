// caption_glyphs: a vision transformer and a decoder that attends to it learn to write the names of letters and digits,
// "capital a" or "digit seven", and are asked about fonts of other families.
//
//   caption_glyphs                        # minutes on two cores; needs the Debian package xfonts-75dpi
//   caption_glyphs --fonts FOLDER --steps 100
//
// Exit status: 0, 1 for an error or a missed --goal, 2 for a wrong command line.
#include <weft/examples/trained/glyph_program.h>
#include <weft/weft.h>

#include <algorithm>

namespace {

using namespace weft;
using namespace weft::examples;

// Captions are written in these tokens: three marks, the space and the letters.
constexpr int64_t kPad = 0, kBegin = 1, kEnd = 2, kSpace = 3, kA = 4, kTokens = kA + 26;

struct Options : GlyphOptions {
  int64_t decoder_depth = 2;

  void add_to(CLI::App& app) {
    GlyphOptions::add_to(app);
    app.add_option("--decoder-depth", decoder_depth, "layers of the decoder")->capture_default_str();
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

  explicit Captioner(const Options& options) {
    xt::AttentionLayersConfig layers = encoder_layers(options);
    encoder = make<ViTransformerWrapper>({
        .image_size = kGlyphSize,
        .patch_size = options.patch,
        .channels = 1,
        .attn_layers = make<Encoder>(layers),
    });
    layers.depth = options.decoder_depth, layers.cross_attend = true;
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

int run(const Options& options) {
  const GlyphData data = prepare(options);
  const Tensor captions = all_captions();
  Captioner model(options);
  return learn_and_ask(
      model, options, data, "images of held-out families named exactly",
      [&](const Tensor& images, const Tensor& labels) { return model.loss(images, index_select(captions, 0, labels)); },
      [&](const Tensor& images) { return model.write(images); });
}

}  // namespace

int main(int argc, char** argv) {
  Options options{GlyphOptions{.training = {.steps = 1500, .lr = 2e-3}}};
  CLI::App app("A vision transformer and a decoder that write the names of letters and digits.", "caption_glyphs");
  options.add_to(app);
  return run_program(app, argc, argv, [&] { return run(options); });
}
