// x-transformers' "Image -> caption": a decoder that attends to the patches of an image.
// The document's caption is of 1024 tokens; here 128.
#include <weft/weft.h>

#include <iostream>

using namespace weft;

int main() {
  const NoGrad guard;  // forward passes only
  manual_seed(0);

  auto encoder = ViTransformerWrapper({
      .image_size = 256,
      .patch_size = 32,
      .attn_layers = make<Encoder>({
          .dim = 512,
          .depth = 6,
          .heads = 8,
      }),
  });
  auto decoder = TransformerWrapper({
      .num_tokens = 20000,
      .max_seq_len = 1024,
      .attn_layers = make<Decoder>({
          .dim = 512,
          .depth = 6,
          .heads = 8,
          .cross_attend = true,
      }),
  });
  const Tensor img = randn({1, 3, 256, 256});
  const Tensor caption = randint(0, 20000, {1, 128});

  const Tensor encoded = encoder(img, {.return_embeddings = true});  // [1, 64, 512]: a vector a patch
  const Tensor logits = decoder(caption, {.context = encoded});      // [1, 128, 20000]

  // Another image, other logits.
  const Tensor other = decoder(caption, {.context = encoder(randn({1, 3, 256, 256}), {.return_embeddings = true})});
  const double difference = amax(abs(other - logits)).item();
  std::cout << "image " << concat(img.shape()) << " -> " << concat(encoded.shape()) << ", caption "
            << concat(caption.shape()) << " -> " << concat(logits.shape()) << "; another image changes the logits by "
            << difference << "\n";
  return encoded.shape() == Shape{1, 64, 512} && logits.shape() == Shape{1, 128, 20000} && difference > 1e-3 ? 0 : 1;
}
