// seq2seq: an encoder and a decoder (XTransformer) that learn to reverse and to sort strings of letters.
//
//   seq2seq                  # minutes on two cores; prints the share of held-out strings it gets wholly right
//   seq2seq --steps 300      # a glimpse
//
// A source is a task and some letters, "<sort> q w e r t y"; its target is "e q r t w y". A tenth of all strings, told
// by a hash, is never trained on: the figures are of those. Exit status: 0, 1 for an error or a missed --goal, 2 for a
// wrong command line.
#include <weft/examples/trained/training.h>
#include <weft/weft.h>

#include <algorithm>
#include <cstdio>

namespace {

using namespace weft;
using namespace weft::examples;

using Letters = std::vector<int64_t>;
// The vocabulary of both sides: four marks, then the letters.
constexpr int64_t kPad = 0, kBegin = 1, kEnd = 2, kReverse = 3, kSort = 4, kA = 5, kTokens = kA + 26;

struct Lengths {
  int64_t shortest = 4, longest = 16;
};

Letters solve(int64_t task, Letters letters) {
  if (task == kReverse) std::reverse(letters.begin(), letters.end());
  if (task == kSort) std::sort(letters.begin(), letters.end());
  return letters;
}

// FNV-1a: which strings are held out is a property of the string alone.
bool is_held_out(const Letters& letters) {
  uint64_t hash = 14695981039346656037u;
  for (const int64_t letter : letters) hash = (hash ^ static_cast<uint64_t>(letter)) * 1099511628211u;
  return hash / 65536 % 10 == 0;
}

Letters draw_string(const Lengths& lengths, bool held_out) {
  for (;;) {
    const auto length = randint(lengths.shortest, lengths.longest + 1, {}).item<int64_t>();
    Letters letters = randint(kA, kTokens, {length}).to_vector<int64_t>();
    if (is_held_out(letters) == held_out) return letters;
  }
}

// Rows of one length, filled with kPad: int64 [b, n].
Tensor padded(const std::vector<Letters>& rows) {
  size_t n = 0;
  for (const Letters& row : rows) n = std::max(n, row.size());
  std::vector<int64_t> all;
  for (const Letters& row : rows) {
    all.insert(all.end(), row.begin(), row.end());
    all.insert(all.end(), n - row.size(), kPad);
  }
  return tensor(all, {static_cast<int64_t>(rows.size()), static_cast<int64_t>(n)});
}

struct Batch {
  std::vector<Letters> sources, targets;  // with their marks: task in front; kBegin in front, kEnd behind
  Tensor source() const { return padded(sources); }
  Tensor mask() const { return ne(source(), kPad); }
};

// Strings of the given task (0: either, by turns).
Batch draw_batch(int64_t size, const Lengths& lengths, int64_t task, bool held_out) {
  Batch batch;
  for (int64_t i = 0; i < size; ++i) {
    const int64_t doing = task ? task : i % 2 ? kSort : kReverse;
    Letters source = draw_string(lengths, held_out), target = solve(doing, source);
    source.insert(source.begin(), doing);
    target.insert(target.begin(), kBegin), target.push_back(kEnd);
    batch.sources.push_back(source), batch.targets.push_back(target);
  }
  return batch;
}

std::string text(const Letters& tokens) {
  std::string written;
  for (const int64_t token : tokens)
    if (token >= kA) written += static_cast<char>('a' + token - kA);
  return written;
}

// What the model writes for each source, its likeliest token each time: up to kEnd, with it.
std::vector<Letters> answers(XTransformer& model, const Batch& batch, int64_t longest) {
  const Tensor source = batch.source();
  const Tensor begin = full({source.size(0), 1}, kBegin, {.dtype = int64});
  const Tensor written = model.generate(source, begin, longest + 1, {.mask = batch.mask()},
                                        {.eos_token = kEnd, .temperature = 0});  // [b, m]
  std::vector<Letters> rows;
  for (int64_t i = 0; i < written.size(0); ++i) {
    Letters row = written[i].to_vector<int64_t>();
    const auto end = std::find(row.begin(), row.end(), kEnd);
    row.erase(end == row.end() ? end : end + 1, row.end());
    row.insert(row.begin(), kBegin);
    rows.push_back(row);
  }
  return rows;
}

struct Command {
  Training training{.steps = 3000};
  Lengths lengths;
  int64_t dim = 96, depth = 2, tests = 1000;

  void add_to(CLI::App& app) {
    training.add_to(app);
    app.add_option("--shortest", lengths.shortest, "letters of the shortest strings")->capture_default_str();
    app.add_option("--longest", lengths.longest, "letters of the longest strings")->capture_default_str();
    app.add_option("--dim", dim, "features of a token")->capture_default_str();
    app.add_option("--depth", depth, "layers of the encoder, and of the decoder")->capture_default_str();
    app.add_option("--tests", tests, "held-out strings a task")->capture_default_str()->check(at_least(1));
  }
};

XTransformer make_model(const Command& command) {
  return XTransformer({
      .dim = command.dim,
      .enc_num_tokens = kTokens,
      .enc_depth = command.depth,
      .enc_heads = 4,
      .enc_max_seq_len = command.lengths.longest + 1,
      .dec_num_tokens = kTokens,
      .dec_depth = command.depth,
      .dec_heads = 4,
      .dec_max_seq_len = command.lengths.longest + 2,
      .tie_token_emb = true,
      .ignore_index = kPad,
      .pad_value = kPad,
      .enc_use_rmsnorm = true,
      .enc_attn_dim_head = 32,
      .enc_ff_mult = 2,
      .enc_ff_glu = true,
      .dec_use_rmsnorm = true,
      .dec_attn_dim_head = 32,
      .dec_ff_mult = 2,
      .dec_ff_glu = true,
  });
}

// Strings of one task that are answered right to the last letter; prints the first ones.
int64_t count_right(XTransformer& model, const Command& command, int64_t task) {
  int64_t right = 0;
  for (int64_t done = 0; done < command.tests; done += 250) {
    const Batch batch = draw_batch(std::min<int64_t>(250, command.tests - done), command.lengths, task, true);
    const std::vector<Letters> written = answers(model, batch, command.lengths.longest);
    for (size_t i = 0; i < written.size(); ++i) {
      right += written[i] == batch.targets[i];
      if (done == 0 && i < 3)
        std::printf("  %s → %s%s\n", text(batch.sources[i]).c_str(), text(written[i]).c_str(),
                    written[i] == batch.targets[i] ? "" : "  (wrong)");
    }
  }
  return right;
}

int run(const Command& command) {
  check(command.lengths.shortest >= 1 && command.lengths.shortest <= command.lengths.longest,
        "--shortest must be from 1 to --longest: ", command.lengths.shortest, ", ", command.lengths.longest);
  check(command.lengths.longest >= 2, "--longest must be at least 2: no string of one letter is held out");
  set_num_threads(static_cast<int>(command.training.threads));
  manual_seed(static_cast<uint64_t>(command.training.seed));
  XTransformer model = make_model(command);
  train(model, command.training, [&] {
    const Batch batch = draw_batch(command.training.batch, command.lengths, 0, false);
    return model(batch.source(), padded(batch.targets), {.mask = batch.mask()});
  });
  const int64_t reversed = count_right(model, command, kReverse), sorted = count_right(model, command, kSort);
  report("reversed exactly", reversed, command.tests, 0);
  report("sorted exactly", sorted, command.tests, 0);
  return report("held-out strings answered exactly", reversed + sorted, 2 * command.tests, command.training.goal) ? 0
                                                                                                                  : 1;
}

}  // namespace

int main(int argc, char** argv) {
  Command command;
  CLI::App app("An encoder and a decoder that learn to reverse and to sort strings.", "seq2seq");
  command.add_to(app);
  return run_program(app, argc, argv, [&] { return run(command); });
}
