// x-transformers' "Augmenting Self-attention with Persistent Memory" (arXiv:1907.01470): learned keys and values in
// each attention, which every query may attend to. The document's sizes; it does not call the layers, and here a
// sequence of 256 goes through.
#include <weft/weft.h>

#include <iostream>

using namespace weft;

int main() {
  const NoGrad guard;  // forward passes only
  manual_seed(0);

  auto enc = Encoder({
      .dim = 512,
      .depth = 6,
      .heads = 8,
      .attn_num_mem_kv = 16,  // so many keys and values
  });
  const Tensor x = randn({1, 256, 512});
  const Tensor out = enc(x);  // [1, 256, 512]

  int64_t learned = 0;
  for (const auto& [name, tensor] : enc.named_parameters())
    if (name.ends_with("mem_k") || name.ends_with("mem_v")) learned += tensor.numel();
  std::cout << concat(x.shape()) << " -> " << concat(out.shape()) << "; " << learned
            << " parameters are learned keys and values\n";
  return out.shape() == x.shape() && learned == 6 * 2 * 8 * 16 * 64 ? 0 : 1;  // layers, k and v, heads, number, size
}
