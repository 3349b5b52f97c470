// x-transformers' "Dropouts": of embeddings, of whole layers, of attention weights, and inside feed-forwards.
// The document's text is of 1024 tokens; here 128.
#include <weft/weft.h>

#include <iostream>

using namespace weft;

int main() {
  const NoGrad guard;  // forward passes only
  manual_seed(0);

  auto model = TransformerWrapper({
      .num_tokens = 20000,
      .max_seq_len = 1024,
      .emb_dropout = 0.1,  // after the embeddings
      .attn_layers = make<Decoder>({
          .dim = 512,
          .depth = 6,
          .heads = 8,
          .layer_dropout = 0.1,  // stochastic depth: leaves out a whole layer
          .attn_dropout = 0.1,   // of attention weights
          .ff_dropout = 0.1,     // of a feed-forward's hidden features
      }),
  });
  const Tensor x = randint(0, 20000, {1, 128});
  const Tensor logits = model(x);  // [1, 128, 20000]

  // Models start in training mode, where every call draws anew; in evaluation mode nothing is dropped.
  const double training = amax(abs(model(x) - logits)).item();
  model.eval();
  const double evaluation = amax(abs(model(x) - model(x))).item();
  std::cout << concat(x.shape()) << " -> " << concat(logits.shape()) << "; two calls differ by " << training
            << " in training and by " << evaluation << " in evaluation\n";
  return logits.shape() == Shape{1, 128, 20000} && training > 1e-3 && evaluation == 0 ? 0 : 1;
}
