// x-transformers' "Full encoder / decoder": the loss of a target given a source, and its gradients.
// The document's texts are of 1024 tokens; here 128.
#include <weft/weft.h>

#include <cmath>
#include <iostream>

using namespace weft;

int main() {
  manual_seed(0);

  auto model = XTransformer({
      .dim = 512,
      .enc_num_tokens = 256,
      .enc_depth = 6,
      .enc_heads = 8,
      .enc_max_seq_len = 1024,
      .dec_num_tokens = 256,
      .dec_depth = 6,
      .dec_heads = 8,
      .dec_max_seq_len = 1024,
      .tie_token_emb = true,  // the encoder and the decoder share their embeddings
  });
  const Tensor src = randint(0, 256, {1, 128});
  const Tensor src_mask = ones_like(src).to(boolean);
  const Tensor tgt = randint(0, 256, {1, 128});

  Tensor loss = model(src, tgt, {.mask = src_mask});  // a scalar
  loss.backward();

  size_t reached = 0;
  for (const Tensor& p : model.parameters()) reached += amax(abs(p.grad())).item() > 0;
  std::cout << "source " << concat(src.shape()) << ", target " << concat(tgt.shape()) << " -> loss " << loss.item()
            << "; gradients reached " << reached << " of " << model.parameters().size() << " parameters\n";
  return loss.shape() == Shape{} && std::isfinite(loss.item()) && reached == model.parameters().size() ? 0 : 1;
}
