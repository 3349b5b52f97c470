#include <weft/examples/lm/atomic_file.h>
#include <weft/examples/lm/metrics.h>
#include <weft/tensor/error.h>

#include <cmath>
#include <nlohmann/json.hpp>

namespace weft::lm {
namespace {

// The measurement on a line, or nothing for one that is damaged (a kill in the middle of a write).
std::optional<Measurement> parse(const std::string& line) {
  const auto json = nlohmann::ordered_json::parse(line, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object() || !json.contains("step") || !json["step"].is_number_integer()) return {};
  if (!json.contains("split") || !json["split"].is_string()) return {};
  Measurement result{.step = json["step"], .split = json["split"], .values = {}};
  for (const auto& [name, value] : json.items())
    if (name != "step" && name != "split")
      result.values.emplace_back(name, value.is_number() ? value.get<double>() : std::nan(""));
  return result;
}

}  // namespace

std::optional<double> Measurement::value(std::string_view name) const {
  for (const auto& [key, number] : values)
    if (key == name) return number;
  return {};
}

std::string Measurement::to_json() const {
  nlohmann::ordered_json json{{"step", step}, {"split", split}};
  for (const auto& [name, number] : values) {
    // Whole numbers (token counts) read better without ".0".
    if (std::isfinite(number) && number == std::floor(number) && std::abs(number) < 1e15)
      json[name] = static_cast<int64_t>(number);
    else
      json[name] = number;
  }
  return json.dump();
}

MetricsLog::MetricsLog(std::filesystem::path path, std::optional<int64_t> keep_up_to) : path_(std::move(path)) {
  std::string kept;
  if (keep_up_to) {
    std::ifstream in(path_);
    for (std::string line; std::getline(in, line);) {
      auto measurement = parse(line);
      if (!measurement || measurement->step > *keep_up_to) continue;
      kept += line + "\n";
      history_.push_back(std::move(*measurement));
    }
  }
  write_file_atomically(path_, kept);
  out_.open(path_, std::ios::app);
  check(out_.is_open(), "metrics: cannot write ", path_.string());
}

void MetricsLog::append(Measurement measurement) {
  out_ << measurement.to_json() + "\n" << std::flush;
  check(out_.good(), "metrics: cannot write ", path_.string());
  history_.push_back(std::move(measurement));
}

void MetricsLog::sync() {
  out_.flush();
  sync_to_disk(path_);
}

}  // namespace weft::lm
