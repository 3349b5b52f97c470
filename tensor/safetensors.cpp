// A file is: the header's length (8 bytes, little endian), the header (a JSON object), the data. The header maps each
// tensor's name to its dtype, shape and the range of data bytes it takes; "__metadata__" maps strings to strings.
#include <weft/tensor/file.h>
#include <weft/tensor/safetensors.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <nlohmann/json.hpp>
#include <numeric>
#include <unordered_map>
#include <unordered_set>

namespace weft {

static_assert(std::endian::native == std::endian::little, "safetensors data is little endian");

namespace {

constexpr size_t kLengthBytes = 8;
constexpr size_t kMaxHeader = 100'000'000;  // the reference implementation's limit
constexpr const char* kMetadata = "__metadata__";
constexpr const char* kDTypes[] = {"F64", "F32", "BF16", "F16", "I64", "I32", "U8", "BOOL"};  // in DType's order

struct Entry {
  DType dtype = float32;
  Shape shape;
  uint64_t begin = 0, end = 0;  // of the data, from its start
};

// A name for an error message: whole if short, since a hostile one can be long.
std::string quote(const std::string& name) {
  constexpr size_t most = 80;
  return name.size() <= most ? "'" + name + "'" : "'" + name.substr(0, most) + "...'";
}

using Json = nlohmann::json;

// Receives the header as the parser reads it, so that nothing is held but what is wanted, duplicates are seen, and
// nesting ends where the format's does.
class HeaderReader : public nlohmann::json_sax<Json> {
 public:
  std::vector<std::string> names;
  std::vector<Entry> entries;
  std::map<std::string, std::string> metadata;

  explicit HeaderReader(const std::string& file) : file_(file) {}

  template <class... Args>
  void check(bool ok, const Args&... args) const {
    if (!ok) [[unlikely]]
      fail("safetensors: ", file_, ": ", args...);
  }

  bool key(std::string& k) override {
    if (place_ == Place::top) {
      if (k == kMetadata) {
        check(!saw_metadata_, "duplicate name '", kMetadata, "'");
        saw_metadata_ = in_metadata_ = true;
      } else {
        check(seen_.insert(k).second, "duplicate name ", quote(k));
        in_metadata_ = false;
        names.push_back(k);
        entries.emplace_back();
      }
    } else if (place_ == Place::metadata) {
      check(!metadata.contains(k), "duplicate metadata ", quote(k));
      key_ = k;
    } else {
      const auto* at = std::find(std::begin(kFields), std::end(kFields), k);
      check(at != std::end(kFields), "tensor ", quote(names.back()), ": unknown field ", quote(k));
      field_ = static_cast<int>(at - std::begin(kFields));
      check(!has_[field_], "tensor ", quote(names.back()), ": duplicate field '", k, "'");
      has_[field_] = true;
    }
    return true;
  }

  bool start_object(size_t) override {
    if (place_ == Place::outside) {
      place_ = Place::top;
    } else if (place_ == Place::top) {
      place_ = in_metadata_ ? Place::metadata : Place::tensor;
      std::fill(std::begin(has_), std::end(has_), false);
    } else {
      refuse();
    }
    return true;
  }

  bool end_object() override {
    if (place_ == Place::tensor) {
      for (int i = 0; i < 3; ++i) check(has_[i], "tensor ", quote(names.back()), ": no ", kFields[i]);
    }
    place_ = place_ == Place::top ? Place::outside : Place::top;
    return true;
  }

  bool start_array(size_t) override {
    if (place_ != Place::tensor || field_ == kDType) refuse();
    place_ = Place::list;
    count_ = 0;
    return true;
  }

  bool end_array() override {
    if (field_ == kOffsets && count_ != 2) refuse_field();
    place_ = Place::tensor;
    return true;
  }

  bool string(std::string& v) override {
    if (place_ == Place::metadata) {
      metadata.emplace(key_, v);
    } else if (place_ == Place::tensor && field_ == kDType) {
      const auto* at = std::find(std::begin(kDTypes), std::end(kDTypes), v);
      check(at != std::end(kDTypes), "tensor ", quote(names.back()), ": unsupported dtype ", quote(v));
      entries.back().dtype = static_cast<DType>(at - std::begin(kDTypes));
    } else {
      refuse();
    }
    return true;
  }

  bool number_unsigned(uint64_t v) override {
    if (place_ != Place::list) refuse();
    Entry& e = entries.back();
    if (field_ == kShape) {
      check(count_ < kMaxDims, "tensor ", quote(names.back()), ": more than ", kMaxDims, " dimensions");
      if (v > INT64_MAX) refuse_field();
      e.shape.push_back(static_cast<int64_t>(v));
    } else {
      if (count_ > 1) refuse_field();
      (count_ == 0 ? e.begin : e.end) = v;
    }
    ++count_;
    return true;
  }

  bool null() override { return refuse(); }
  bool boolean(bool) override { return refuse(); }
  bool number_integer(int64_t) override { return refuse(); }  // negative: others come as unsigned
  bool number_float(double, const std::string&) override { return refuse(); }
  bool binary(Json::binary_t&) override { return refuse(); }
  bool parse_error(size_t position, const std::string&, const nlohmann::detail::exception&) override {
    fail("safetensors: ", file_, ": the header is not valid JSON at byte ", position);
  }

 private:
  enum class Place { outside, top, metadata, tensor, list };
  enum Field { kDType, kShape, kOffsets };
  static constexpr const char* kFields[] = {"dtype", "shape", "data_offsets"};

  // A value of a kind that does not belong where it stands.
  [[noreturn]] bool refuse() const {
    if (place_ == Place::top) {
      check(!in_metadata_, kMetadata, " is not an object");
      check(false, "tensor ", quote(names.back()), " is not described by an object");
    }
    check(place_ != Place::metadata, "metadata ", quote(key_), " is not a string");
    refuse_field();
  }
  [[noreturn]] void refuse_field() const {
    constexpr const char* wanted[] = {"a string", "a list of sizes", "a pair of positions"};
    fail("safetensors: ", file_, ": tensor ", quote(names.back()), ": ", kFields[field_], " is not ", wanted[field_]);
  }

  const std::string& file_;
  Place place_ = Place::outside;
  bool in_metadata_ = false, saw_metadata_ = false;
  std::unordered_set<std::string> seen_;
  std::string key_;  // of the metadata value that comes next
  int field_ = 0;    // of the tensor, whose value comes next
  bool has_[3] = {};
  int64_t count_ = 0;  // numbers seen in this list
};

// Bytes that dtype and shape ask for. Sizes of 0 count as 1 for overflow: strides must be representable too.
void check_size(const HeaderReader& h, const std::string& name, const Entry& e) {
  int64_t n = 1;
  bool fits = true;
  for (int64_t d : e.shape) fits = fits && !__builtin_mul_overflow(n, std::max<int64_t>(d, 1), &n);
  h.check(fits && n < (int64_t{1} << 58), "tensor ", quote(name), ": shape ", e.shape, " has too many elements");
  const uint64_t bytes = static_cast<uint64_t>(e.shape.numel()) * size_of(e.dtype);
  h.check(e.end - e.begin == bytes, "tensor ", quote(name), ": ", e.dtype, " of shape ", e.shape, " takes ", bytes,
          " bytes, data_offsets give it ", e.end - e.begin);
}

// The ranges must cover the data exactly: no overlap, no hole, nothing left over.
void check_layout(const HeaderReader& h, uint64_t data_size) {
  for (size_t i = 0; i < h.entries.size(); ++i) {
    const Entry& e = h.entries[i];
    h.check(e.begin <= e.end && e.end <= data_size, "tensor ", quote(h.names[i]), ": data_offsets [", e.begin, ", ",
            e.end, "] do not lie in ", data_size, " bytes of data");
    check_size(h, h.names[i], e);
  }
  std::vector<size_t> order(h.entries.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::sort(order.begin(), order.end(), [&](size_t a, size_t b) {
    return std::pair(h.entries[a].begin, h.entries[a].end) < std::pair(h.entries[b].begin, h.entries[b].end);
  });
  uint64_t at = 0;
  for (size_t i : order) {
    const Entry& e = h.entries[i];
    h.check(e.begin >= at, "tensor ", quote(h.names[i]), ": its data overlaps another tensor's at byte ", e.begin);
    h.check(e.begin == at, "bytes ", at, " to ", e.begin, " of the data belong to no tensor");
    at = e.end;
  }
  h.check(at == data_size, "bytes ", at, " to ", data_size, " of the data belong to no tensor");
}

}  // namespace

// Also the owner of the memory behind the tensors.
struct SafetensorsFile::Contents {
  std::shared_ptr<void> keep;
  std::string name;
  const char* data = nullptr;
  std::vector<std::string> names;
  std::vector<Entry> entries;
  std::map<std::string, std::string> metadata;
  std::unordered_map<std::string, size_t> index;

  const Entry& find(const std::string& tensor) const {
    const auto it = index.find(tensor);
    check(it != index.end(), "safetensors: ", name, ": no tensor ", quote(tensor));
    return entries[it->second];
  }

  Contents(std::string_view bytes, std::shared_ptr<void> owner, const std::string& n)
      : keep(std::move(owner)), name(n) {
    HeaderReader h(name);
    h.check(bytes.size() >= kLengthBytes, bytes.size(), " bytes are too short for a header");
    uint64_t length;
    std::memcpy(&length, bytes.data(), kLengthBytes);
    h.check(length <= kMaxHeader, "the header claims ", length, " bytes, more than ", kMaxHeader);
    h.check(length <= bytes.size() - kLengthBytes, "the header claims ", length, " bytes, the file has ",
            bytes.size() - kLengthBytes, " after its length");
    const std::string_view header = bytes.substr(kLengthBytes, length);
    h.check(header.starts_with('{'), "the header does not start with '{'");
    const size_t zero = header.find('\0');  // the parser would take it for the end
    h.check(zero == header.npos, "the header is not valid JSON at byte ", zero + 1);
    Json::sax_parse(header.begin(), header.end(), &h);
    check_layout(h, bytes.size() - kLengthBytes - length);
    data = bytes.data() + kLengthBytes + length;
    names = std::move(h.names), entries = std::move(h.entries), metadata = std::move(h.metadata);
    for (size_t i = 0; i < names.size(); ++i) index.emplace(names[i], i);
  }
};

SafetensorsFile::SafetensorsFile(const std::string& path) {
  const auto file = std::make_shared<MappedFile>(path);
  contents_ = std::make_shared<Contents>(std::string_view(file->data(), file->size()), file, path);
}

SafetensorsFile::SafetensorsFile(std::string_view bytes, std::shared_ptr<void> keep, const std::string& name)
    : contents_(std::make_shared<Contents>(bytes, std::move(keep), name)) {}

const std::vector<std::string>& SafetensorsFile::names() const { return contents_->names; }
const std::map<std::string, std::string>& SafetensorsFile::metadata() const { return contents_->metadata; }
bool SafetensorsFile::contains(const std::string& name) const { return contents_->index.contains(name); }
DType SafetensorsFile::dtype(const std::string& name) const { return contents_->find(name).dtype; }
const Shape& SafetensorsFile::shape(const std::string& name) const { return contents_->find(name).shape; }

Tensor SafetensorsFile::tensor(const std::string& name) const {
  const Entry& e = contents_->find(name);
  const auto bytes = static_cast<size_t>(e.end - e.begin);
  if (bytes == 0) return empty(e.shape, e.dtype);
  const char* p = contents_->data + e.begin;
  const bool aligned = reinterpret_cast<uintptr_t>(p) % size_of(e.dtype) == 0;
  const bool strange = e.dtype == boolean && std::any_of(p, p + bytes, [](char c) { return (c & ~1) != 0; });
  if (aligned && !strange) {
    const auto owner = std::const_pointer_cast<Contents>(contents_);
    auto storage = std::make_shared<Storage>(const_cast<char*>(p), bytes, owner, /*read_only=*/true);
    return Tensor(std::make_shared<TensorImpl>(std::move(storage), 0, e.shape, e.shape.contiguous_strides(), e.dtype));
  }
  Tensor copy = empty(e.shape, e.dtype);
  char* out = static_cast<char*>(copy.raw_data());
  std::memcpy(out, p, bytes);
  if (strange) std::transform(out, out + bytes, out, [](char c) { return static_cast<char>(c != 0); });
  return copy;
}

NamedTensors load_safetensors(const std::string& path, Device device, std::map<std::string, std::string>* metadata) {
  const SafetensorsFile file(path);
  if (metadata) *metadata = file.metadata();
  NamedTensors tensors;
  for (const std::string& name : file.names()) tensors.emplace_back(name, file.tensor(name).to(device));
  return tensors;
}

namespace {

std::string json_string(const std::string& s) {
  try {
    return Json(s).dump();
  } catch (const Json::exception&) {
    fail("save_safetensors: not UTF-8: ", quote(s));
  }
}

std::string make_header(const NamedTensors& tensors, const std::vector<size_t>& order,
                        const std::map<std::string, std::string>& metadata) {
  std::vector<uint64_t> begin(tensors.size());
  uint64_t at = 0;
  auto bytes = [](const Tensor& t) { return static_cast<uint64_t>(t.numel()) * size_of(t.dtype()); };
  for (size_t i : order) {
    begin[i] = at;
    at += bytes(tensors[i].second);
  }
  std::string h = "{";
  if (!metadata.empty()) {
    h += concat("\"", kMetadata, "\":{");
    for (const auto& [key, value] : metadata) {
      if (h.back() != '{') h += ',';
      h += json_string(key) + ':' + json_string(value);
    }
    h += '}';
  }
  for (size_t i = 0; i < tensors.size(); ++i) {
    const auto& [name, t] = tensors[i];
    if (h.size() > 1) h += ',';
    h += concat(json_string(name), ":{\"dtype\":\"", kDTypes[static_cast<int>(t.dtype())], "\",\"shape\":[");
    for (int64_t d = 0; d < t.dim(); ++d) h += concat(d ? "," : "", t.shape()[d]);
    h += concat("],\"data_offsets\":[", begin[i], ",", begin[i] + bytes(t), "]}");
  }
  h += '}';
  h.append((8 - h.size() % 8) % 8, ' ');  // the data starts aligned
  check(h.size() <= kMaxHeader, "save_safetensors: the header takes ", h.size(), " bytes, more than ", kMaxHeader);
  return h;
}

}  // namespace

void save_safetensors(const std::string& path, const NamedTensors& tensors,
                      const std::map<std::string, std::string>& metadata) {
  std::unordered_set<std::string> seen;
  for (const auto& [name, t] : tensors) {
    check(name != kMetadata, "save_safetensors: a tensor cannot be named '", kMetadata, "'");
    check(seen.insert(name).second, "save_safetensors: duplicate name ", quote(name));
    check(t.defined(), "save_safetensors: tensor ", quote(name), " is undefined");
  }
  // Wide types first: every tensor is then aligned for its type.
  std::vector<size_t> order(tensors.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) {
    return size_of(tensors[a].second.dtype()) > size_of(tensors[b].second.dtype());
  });
  const std::string header = make_header(tensors, order, metadata);
  const uint64_t length = header.size();
  OutputFile file(path);
  file.write(&length, sizeof length);
  file.write(header);
  for (size_t i : order) {
    const Tensor t = tensors[i].second.detach().cpu().contiguous();
    file.write(t.raw_data(), static_cast<size_t>(t.numel()) * size_of(t.dtype()));
  }
  file.commit();
}

}  // namespace weft
