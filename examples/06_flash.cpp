// The gated attention unit, FLASH and the FLASH transformer, as their document shows them.
#include <weft/nn/flash/flash_transformer.h>
#include <weft/nn/flash/gau.h>
#include <weft/weft.h>

#include <iostream>

using namespace weft;
using namespace weft::flash;

int main() {
  const NoGrad guard;  // forward passes only
  manual_seed(0);

  auto gau = GAU({
      .dim = 512,
      .query_key_dim = 128,     // query / key dimension
      .causal = true,           // autoregressive or not
      .expansion_factor = 2,    // hidden dimension = dim * expansion_factor
      .laplace_attn_fn = true,  // more stable than relu squared as attention function
  });
  Tensor x = randn({1, 1024, 512});
  Tensor out = gau(x);  // [1, 1024, 512]
  std::cout << "GAU: " << concat(x.shape()) << " -> " << concat(out.shape()) << "\n";

  auto flash = FLASH({
      .dim = 512,
      .group_size = 256,
      .causal = true,
      .query_key_dim = 128,
      .expansion_factor = 2,
      .laplace_attn_fn = true,
  });
  x = randn({1, 1111, 512});  // any length: it need not be a multiple of group_size
  out = flash(x);             // [1, 1111, 512]
  std::cout << "FLASH: " << concat(x.shape()) << " -> " << concat(out.shape()) << "\n";

  auto model = FLASHTransformer({
      .num_tokens = 20000,
      .dim = 512,
      .depth = 12,
      .causal = true,
      .group_size = 256,
      .query_key_dim = 128,
      .expansion_factor = 2,
      .norm_type = "scalenorm",  // or "layernorm"
      .shift_tokens = true,      // half of the features come from the token before
  });
  const Tensor tokens = randint(0, 20000, {1, 1024});
  const Tensor logits = model(tokens);  // [1, 1024, 20000]
  std::cout << "FLASHTransformer: " << concat(tokens.shape()) << " -> " << concat(logits.shape()) << ", "
            << model.num_parameters() << " parameters\n";
  return out.shape() == x.shape() && logits.shape() == Shape{1, 1024, 20000} ? 0 : 1;
}
