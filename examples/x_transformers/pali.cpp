// x-transformers' PaLI (arXiv:2209.06794): a vision transformer whose patches stand before the prompt of an encoder and
// decoder. The document's prompt and output are of 1024 tokens; here 96.
#include <weft/weft.h>

#include <cmath>
#include <iostream>

using namespace weft;

int main() {
  manual_seed(0);

  auto vit = ViTransformerWrapper({
      .image_size = 256,
      .patch_size = 32,
      .attn_layers = make<Encoder>({
          .dim = 512,
          .depth = 6,
          .heads = 8,
      }),
  });
  auto pali = XTransformer({
      .dim = 512,
      .enc_num_tokens = 256,
      .enc_depth = 6,
      .enc_heads = 8,
      .enc_max_seq_len = 1024,
      .dec_num_tokens = 256,
      .dec_depth = 6,
      .dec_heads = 8,
      .dec_max_seq_len = 1024,
  });

  // what it learns from
  const Tensor img = randn({1, 3, 256, 256});                    // images
  const Tensor prompt = randint(0, 256, {1, 96});                // what is asked about them
  const Tensor prompt_mask = ones({1, 96}, {.dtype = boolean});  // which tokens of it are real
  const Tensor output_text = randint(0, 256, {1, 96});           // what is to be answered

  // a step of training
  const Tensor img_embeds = vit(img, {.return_embeddings = true});  // [1, 64, 512]
  Tensor loss = pali(prompt, output_text,
                     {
                         .mask = prompt_mask,
                         .src_prepend_embeds = img_embeds,  // go before the prompt's embeddings
                     });
  loss.backward();

  size_t reached = 0;
  for (const Tensor& p : vit.parameters()) reached += amax(abs(p.grad())).item() > 0;
  std::cout << "image " << concat(img.shape()) << " -> " << concat(img_embeds.shape()) << ", loss " << loss.item()
            << "; gradients reached " << reached << " of the vision transformer's " << vit.parameters().size()
            << " parameters\n";
  return img_embeds.shape() == Shape{1, 64, 512} && std::isfinite(loss.item()) && reached == vit.parameters().size()
             ? 0
             : 1;
}
