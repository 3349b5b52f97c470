// x-transformers' approximation of GPT-3, whose parameters alone take 700 GB in float32: a model of the same form is
// built 96 times narrower and with 4 of its 96 layers, to see that its parameters are as many as counted; the count is
// then taken at the document's sizes.
#include <weft/weft.h>

#include <iostream>

using namespace weft;

// Parameters of a TransformerWrapper over a Decoder with nothing switched on.
int64_t count_parameters(int64_t num_tokens, int64_t max_seq_len, const Decoder::Config& c) {
  const int64_t inner = c.heads * c.attn_dim_head;
  const int64_t attention = c.dim + 4 * c.dim * inner;                 // norm; queries, keys, values, output
  const int64_t feed_forward = c.dim + 8 * c.dim * c.dim + 5 * c.dim;  // norm; weights and biases of two layers
  const int64_t embeddings = (num_tokens + max_seq_len) * c.dim;
  return embeddings + *c.depth * (attention + feed_forward) + c.dim + num_tokens * c.dim;  // last: norm and logits
}

int main() {
  const NoGrad guard;
  manual_seed(0);

  auto gpt3 = TransformerWrapper({
      .num_tokens = 50000,
      .max_seq_len = 2048,
      .attn_layers = make<Decoder>({
          .dim = 128,  // 12288
          .depth = 4,  // 96
          .heads = 1,  // 96
          .attn_dim_head = 128,
      }),
  });
  const Tensor x = randint(0, 50000, {1, 64});
  const Tensor logits = gpt3(x);  // [1, 64, 50000]

  const int64_t counted = count_parameters(50000, 2048, gpt3.attn_layers().config());
  const int64_t full = count_parameters(50000, 2048, {.dim = 12288, .depth = 96, .heads = 96, .attn_dim_head = 128});
  std::cout << concat(x.shape()) << " -> " << concat(logits.shape()) << ", " << gpt3.num_parameters()
            << " parameters; at the document's sizes " << static_cast<double>(full) / 1e9 << " billion\n";
  return logits.shape() == Shape{1, 64, 50000} && counted == gpt3.num_parameters() && full / 1000000000 == 175 ? 0 : 1;
}
