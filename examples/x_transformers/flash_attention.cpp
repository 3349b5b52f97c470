// x-transformers' "Flash Attention" (arXiv:2205.14135): softmax and weighted sums in tiles, without the n x n matrix of
// scores. weft's attention is fused wherever its options allow it; attn_flash refuses the options that do not. The
// document's sizes; it does not call the model, and here a text of 256 tokens goes through.
#include <weft/weft.h>

#include <iostream>

using namespace weft;

int main() {
  const NoGrad guard;  // forward passes only
  manual_seed(0);

  auto model = TransformerWrapper({
      .num_tokens = 20000,
      .max_seq_len = 1024,
      .attn_layers = make<Decoder>({
          .dim = 512,
          .depth = 6,
          .heads = 8,
          .attn_flash = true,  // all that there is to do
      }),
  });
  const Tensor x = randint(0, 20000, {1, 256});
  const Tensor logits = model(x);  // [1, 256, 20000]

  // The same weights in tiles and over the matrix, which asking for the scores brings about.
  auto over_scores = TransformerWrapper({
      .num_tokens = 20000,
      .max_seq_len = 1024,
      .attn_layers = make<Decoder>({.dim = 512, .depth = 6, .heads = 8}),
  });
  over_scores.load_state_dict(model.state_dict());
  const double difference = amax(abs(over_scores(x, {.return_attn = true}) - logits)).item();

  // Talking heads mix whole matrices of scores: the constructor says that they cannot be had in tiles.
  bool refused = false;
  try {
    Decoder({.dim = 512, .depth = 6, .heads = 8, .attn_flash = true, .attn_pre_talking_heads = true});
  } catch (const Error& e) {
    refused = true;
    std::cout << "refused: " << e.what() << "\n";
  }
  std::cout << concat(x.shape()) << " -> " << concat(logits.shape()) << "; over the matrix they differ by "
            << difference << "\n";
  return logits.shape() == Shape{1, 256, 20000} && difference < 1e-3 && refused ? 0 : 1;
}
