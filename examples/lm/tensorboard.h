// Scalars for TensorBoard, written without protobuf or TensorFlow.
//
// An event file is a sequence of records (the TFRecord framing), each an `Event` message:
//   uint64 length · masked crc32c(length) · payload · masked crc32c(payload)           all little-endian
// The few protobuf fields needed (Event: wall_time 1, step 2, file_version 3, summary 5, session_log 7;
// Summary.value 1; Value: tag 1, simple_value 2; SessionLog.status 1) are encoded by hand.
#pragma once

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <optional>
#include <string>
#include <string_view>

namespace weft::lm {

// The CRC with Castagnoli's polynomial, as in RFC 3720 appendix B.4.
uint32_t crc32c(std::string_view bytes);
// TFRecord stores crc rotated right by 15 plus a constant, so that a crc of data that holds crcs stays meaningful.
uint32_t masked_crc32c(std::string_view bytes);

// The three messages, unframed. `wall_time` is in seconds since 1970.
std::string version_event(double wall_time);
std::string scalar_event(double wall_time, int64_t step, std::string_view tag, float value);
// Tells TensorBoard that a run restarts here: it drops what earlier files hold from `step` on.
std::string restart_event(double wall_time, int64_t step);
std::string frame_record(std::string_view payload);

class EventWriter {
 public:
  // Opens a new file `events.out.tfevents.SECONDS.NNNN.weft` in `folder`, sorted after those already there.
  // With `resume_after`, earlier events with a later step are declared void. Throws weft::Error if it cannot write.
  explicit EventWriter(const std::filesystem::path& folder, std::optional<int64_t> resume_after = {});

  void scalar(std::string_view tag, double value, int64_t step);
  void flush();
  const std::filesystem::path& path() const { return path_; }

 private:
  void write(const std::string& event);

  std::filesystem::path path_;
  std::ofstream out_;
};

}  // namespace weft::lm
