// What a training run shows on stderr: on a terminal one line redrawn in place, elsewhere (a file, a pipe) plain lines.
#pragma once

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <string>
#include <string_view>

namespace weft::lm {

class Progress {
 public:
  // `total_steps` 0 means unknown (a run limited by time); see `set_total`. `stream` is not owned.
  Progress(std::FILE* stream, int64_t total_steps);
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  void set_total(int64_t total_steps) { total_steps_ = total_steps; }
  // `fraction` of the run is done; it and `seconds_left` below 0 mean unknown. `plain_line` asks for a line where there
  // is no terminal.
  void update(int64_t step, double fraction, double bits_per_byte, double tokens_per_second, double seconds_left,
              bool plain_line);
  // A full line of its own (a validation result, a note); the bar is drawn again below it.
  void message(std::string_view text);
  // Leaves the bar as it is; what is written next stands below it.
  void finish();
  bool on_terminal() const { return terminal_; }

 private:
  void clear();

  std::FILE* stream_;
  int64_t total_steps_;
  bool terminal_;
  bool drawn_ = false;
  std::string last_line_;
  std::chrono::steady_clock::time_point last_draw_{};
};

// 3725 s -> "1:02:05", 65 s -> "1:05".
std::string clock_text(double seconds);
// 15300 -> "15.3k", 1200000 -> "1.20M".
std::string count_text(double count);
// The bar itself, `width` columns, `fraction` in [0, 1] (drawn in eighths of a column).
std::string bar_text(double fraction, int width);

}  // namespace weft::lm
