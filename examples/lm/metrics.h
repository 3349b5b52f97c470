// metrics.jsonl: one JSON object a line, a line a measurement, e.g.
//   {"step":40,"split":"train","loss":2.7183,"lr":0.001}
// and the loss curve drawn from it.
#pragma once

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace weft::lm {

struct Measurement {
  int64_t step = 0;
  std::string split;  // "train" or "valid"
  std::vector<std::pair<std::string, double>> values;

  std::optional<double> value(std::string_view name) const;
  // The JSON line without its newline; a value that is not finite becomes null.
  std::string to_json() const;
};

class MetricsLog {
 public:
  // Continues the file after step `keep_up_to`: later lines, and a last line cut off by a kill, are removed first, so
  // that a resumed run has each line once. Without `keep_up_to` the file starts anew.
  MetricsLog(std::filesystem::path path, std::optional<int64_t> keep_up_to);

  void append(Measurement measurement);
  // Returns once everything appended is on the disk; call before a checkpoint counts as written.
  void sync();
  const std::vector<Measurement>& history() const { return history_; }

 private:
  std::filesystem::path path_;
  std::ofstream out_;
  std::vector<Measurement> history_;
};

// Training and validation bits per byte (from each line's "bits_per_byte") over steps, as an SVG document.
std::string loss_curve_svg(std::span<const Measurement> history, std::string_view title);

}  // namespace weft::lm
