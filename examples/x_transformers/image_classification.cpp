// x-transformers' image classification: SimpleViT (arXiv:2205.01580), an encoder over an image's patches. The
// document's sizes.
#include <weft/weft.h>

#include <iostream>

using namespace weft;

int main() {
  const NoGrad guard;  // forward passes only
  manual_seed(0);

  auto model = ViTransformerWrapper({
      .image_size = 256,
      .patch_size = 32,
      .num_classes = 1000,
      .attn_layers = make<Encoder>({
          .dim = 512,
          .depth = 6,
          .heads = 8,
      }),
  });
  const Tensor img = randn({1, 3, 256, 256});
  const Tensor logits = model(img);  // [1, 1000]

  std::cout << concat(img.shape()) << " -> " << concat(logits.shape()) << ", likeliest class "
            << argmax(logits, -1).item<int64_t>() << "\n";
  return logits.shape() == Shape{1, 1000} && all(isfinite(logits)).item<bool>() ? 0 : 1;
}
