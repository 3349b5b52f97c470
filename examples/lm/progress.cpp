#include <sys/ioctl.h>
#include <unistd.h>
#include <weft/examples/lm/progress.h>

#include <algorithm>
#include <cmath>

namespace weft::lm {
namespace {

int columns_of(std::FILE* stream) {
  winsize size{};
  if (::ioctl(::fileno(stream), TIOCGWINSZ, &size) == 0 && size.ws_col > 0) return size.ws_col;
  return 80;
}

}  // namespace

std::string clock_text(double seconds) {
  const auto total = static_cast<long long>(std::llround(std::max(seconds, 0.0)));
  char text[32];
  if (total >= 3600)
    std::snprintf(text, sizeof text, "%lld:%02lld:%02lld", total / 3600, total / 60 % 60, total % 60);
  else
    std::snprintf(text, sizeof text, "%lld:%02lld", total / 60, total % 60);
  return text;
}

std::string count_text(double count) {
  char text[32];
  if (count >= 999500)
    std::snprintf(text, sizeof text, "%.2fM", count / 1e6);
  else if (count >= 1000)
    std::snprintf(text, sizeof text, "%.1fk", count / 1e3);
  else
    std::snprintf(text, sizeof text, "%.0f", count);
  return text;
}

std::string bar_text(double fraction, int width) {
  static constexpr const char* kPart[] = {"", "▏", "▎", "▍", "▌", "▋", "▊", "▉"};
  const int eighths = static_cast<int>(std::clamp(fraction, 0.0, 1.0) * width * 8);
  std::string bar;
  for (int i = 0; i < eighths / 8; ++i) bar += "█";
  bar += kPart[eighths % 8];
  const int used = eighths / 8 + (eighths % 8 != 0);
  return bar + std::string(static_cast<size_t>(width - used), ' ');
}

Progress::Progress(std::FILE* stream, int64_t total_steps)
    : stream_(stream), total_steps_(total_steps), terminal_(::isatty(::fileno(stream)) == 1) {}

Progress::~Progress() { finish(); }

void Progress::finish() {
  if (terminal_ && drawn_) std::fputs("\n", stream_);
  drawn_ = false;
}

void Progress::update(int64_t step, double fraction, double bits_per_byte, double tokens_per_second,
                      double seconds_left, bool plain_line) {
  std::string left = "step " + std::to_string(step);
  if (total_steps_ > 0) left.append("/").append(std::to_string(total_steps_));
  char numbers[96];
  std::snprintf(numbers, sizeof numbers, "  %.3f bits/byte  ", bits_per_byte);
  std::string right = numbers + count_text(tokens_per_second) + " tokens/s";
  if (seconds_left >= 0) right += "  " + clock_text(seconds_left) + " left";
  if (!terminal_) {
    if (plain_line) std::fprintf(stream_, "%s%s\n", left.c_str(), right.c_str());
    return;
  }
  const auto now = std::chrono::steady_clock::now();
  if (drawn_ && fraction < 1 && now - last_draw_ < std::chrono::milliseconds(80)) return;
  last_draw_ = now;
  last_line_ = left;
  const int room = columns_of(stream_) - static_cast<int>(left.size() + right.size()) - 4;
  if (fraction >= 0 && room >= 8) last_line_ += " ▕" + bar_text(fraction, std::min(room, 40)) + "▏";
  last_line_ += right;
  clear();
  std::fputs(last_line_.c_str(), stream_);
  std::fflush(stream_);
  drawn_ = true;
}

void Progress::message(std::string_view text) {
  clear();
  std::fprintf(stream_, "%.*s\n", static_cast<int>(text.size()), text.data());
  if (terminal_ && drawn_) std::fputs(last_line_.c_str(), stream_);
  std::fflush(stream_);
}

void Progress::clear() {
  if (terminal_ && drawn_) std::fputs("\r\x1b[K", stream_);
}

}  // namespace weft::lm
