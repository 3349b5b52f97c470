// A transformer from its parts, small enough to read in one go: it learns to write the digits of a sum backwards.
#include <weft/weft.h>

#include <cstdio>

using namespace weft;

// Pre-norm block: attention, then a feed-forward network, each added to the stream that runs through.
struct Block : Module {
  int64_t heads;
  LayerNorm norm1, norm2;
  Linear to_qkv, to_out, up, down;

  Block(int64_t dim, int64_t heads)
      : heads(heads),
        norm1(dim),
        norm2(dim),
        to_qkv(dim, 3 * dim, false),
        to_out(dim, dim, false),
        up(dim, 4 * dim),
        down(4 * dim, dim) {
    register_module("norm1", norm1);
    register_module("norm2", norm2);
    register_module("to_qkv", to_qkv);
    register_module("to_out", to_out);
    register_module("up", up);
    register_module("down", down);
  }

  Tensor attention(const Tensor& x) const {  // x: [b, n, dim]
    const Tensors qkv = chunk(to_qkv(x), 3, -1);
    auto split_heads = [&](const Tensor& t) { return t.unflatten(-1, {heads, -1}).transpose(1, 2); };  // [b, h, n, d]
    const Tensor y =
        scaled_dot_product_attention(split_heads(qkv[0]), split_heads(qkv[1]), split_heads(qkv[2]), {.causal = true});
    return to_out(y.transpose(1, 2).flatten(2));
  }
  Tensor forward(const Tensor& x) const override {
    const Tensor y = x + attention(norm1(x));
    return y + down(up(norm2(y), Activation::gelu));
  }
  std::string name() const override { return "Block"; }
};

struct Transformer : Module {
  Embedding token, position;
  ModuleList blocks;
  LayerNorm norm;
  Linear to_logits;

  Transformer(int64_t num_tokens, int64_t length, int64_t dim, int64_t depth, int64_t heads)
      : token(num_tokens, dim), position(length, dim), norm(dim), to_logits(dim, num_tokens) {
    for (int64_t i = 0; i < depth; ++i) blocks.emplace_back<Block>(dim, heads);
    register_module("token", token);
    register_module("position", position);
    register_module("blocks", blocks);
    register_module("norm", norm);
    register_module("to_logits", to_logits);
  }
  Tensor forward(const Tensor& ids) const override {  // [b, n] → [b, n, num_tokens]
    Tensor x = token(ids) + position(arange(ids.size(1)));
    for (int64_t i = 0; i < blocks.size(); ++i) x = blocks[i](x);
    return to_logits(norm(x));
  }
  std::string name() const override { return "Transformer"; }
};

// "12+34=64" with the sum's digits reversed: 46 is written 64. Digits are tokens 0-9, '+' is 10, '=' is 11.
Tensor sums(int64_t count, Generator& generator) {
  const auto numbers = randint(0, 100, {count, 2}, {.dtype = int64}, generator).to_vector<int64_t>();
  std::vector<int64_t> ids;
  for (size_t i = 0; i < numbers.size(); i += 2) {
    const int64_t a = numbers[i], b = numbers[i + 1], c = a + b;
    ids.insert(ids.end(), {a / 10, a % 10, 10, b / 10, b % 10, 11, c % 10, c / 10 % 10, c / 100});
  }
  return tensor(ids, {count, 9});
}

int main() {
  manual_seed(1);
  Transformer model(12, 8, 64, 2, 4);
  AdamW optimizer(model.parameters(), {.lr = 3e-3});
  Generator train(2), held_out(3);
  const int steps = 600;
  const Schedule schedule = with_warmup(30, cosine_schedule(steps));
  for (int step = 0; step <= steps; ++step) {
    const Tensor ids = sums(128, train);
    // Only the three answer digits are scored: positions 5, 6, 7 predict tokens 6, 7, 8.
    const Tensor logits = model(ids.narrow(1, 0, 8)).narrow(1, 5, 3), target = ids.narrow(1, 6, 3);
    const Tensor loss = cross_entropy(logits.flatten(0, 1), target.flatten());
    optimizer.zero_grad();
    loss.backward();
    clip_grad_norm_(model.parameters(), 1.0);
    optimizer.set_lr_scale(schedule(step));
    optimizer.step();
    if (step % 100 == 0) std::printf("step %3d  loss %.4f\n", step, loss.item());
  }
  NoGrad guard;
  model.eval();
  const Tensor ids = sums(500, held_out);
  const Tensor right = eq(argmax(model(ids.narrow(1, 0, 8)).narrow(1, 5, 3), -1), ids.narrow(1, 6, 3));
  const double exact = mean(all(right, 1).to(float32)).item();
  std::printf("sums right to the last digit, on new ones: %.1f %%\n", 100 * exact);
  return exact > 0.9 ? 0 : 1;
}
