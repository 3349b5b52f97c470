// What the trained examples share: their options and their training loop.
#pragma once

#include <weft/nn/module.h>

#include <CLI/CLI.hpp>
#include <functional>
#include <string>
#include <vector>

namespace weft::examples {

// Checks of an option's number, "--batch: must be at least 1, not 0".
CLI::Validator at_least(int64_t least);
CLI::Validator above_zero();

struct Training {
  int64_t steps = 0, batch = 64;
  double lr = 1e-3;
  int64_t seed = 0, threads = 0;
  double goal = 0;  // the program fails if its accuracy is below

  void add_to(CLI::App& app);
};

// AdamW on loss(), which draws a batch and gives its mean loss: the rate rises over a twentieth of the steps, then
// falls to zero along half a cosine. Prints up to twenty lines, with the training time so far. Throws weft::Error
// for a loss that is not finite.
void train(const Module& model, const Training& options, const std::function<Tensor()>& loss);

// "WHAT: 97.31 % (2413 of 2480)". Returns whether the goal is reached, and says so on stderr where it is not.
bool report(const char* what, int64_t right, int64_t of, double goal);

// The same for names, with the most frequent errors before it.
bool report(const char* what, const std::vector<std::string>& answers, const std::vector<std::string>& expected,
            double goal);

// Parses the command line and runs. Exit status: what run returns; 1 for an error, in one line on stderr; 2 for a wrong
// command line.
int run_program(CLI::App& app, int argc, char** argv, const std::function<int()>& run);

}  // namespace weft::examples
