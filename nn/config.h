// Options of a module as a list of named fields: read from JSON, written as JSON, listed for a help text.
//
// A config is a plain struct, filled by designated initialisers, with one function beside it that lists its fields:
//
//   struct GAUConfig { int64_t dim = 0; bool causal = false; };
//   inline Fields fields(GAUConfig& c) { return {{"dim", &c.dim}, {"causal", &c.causal}}; }
#pragma once

#include <weft/tensor/error.h>

#include <functional>
#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace weft {

class Field;
using Fields = std::vector<Field>;

/// One value for all of something, or a value for each: `.shift_tokens = 1` or `.shift_tokens = {1, 1, 0, 0}`, and the
/// same in JSON.
template <class T>
struct OneOrEach {
  OneOrEach(T all) : values{all} {}
  OneOrEach(std::initializer_list<T> each) : values(each) {}
  /// Value i of n; throws, naming the option, where neither one nor n values were given.
  T at(int64_t i, int64_t n, std::string_view option) const {
    const auto given = static_cast<int64_t>(values.size());
    check(given == 1 || given == n, "option ", option, ": expected 1 or ", n, " values, got ", given);
    return values[given == 1 ? 0 : static_cast<size_t>(i)];
  }
  std::vector<T> values;
};

/// Numbers by name, in order: {{"note", 128}, {"pitch", 12}}, in JSON an object.
using NamedIntegers = std::vector<std::pair<std::string, int64_t>>;

/// A config inside a config, null (or absent) in JSON where it has no value.
struct NestedField {
  std::function<bool()> has_value;
  std::function<void()> reset;
  std::function<Fields()> open;  ///< its fields; gives it a default value first where it has none
};

/// One option: its name and where its value lives.
class Field {
 public:
  using Value =
      std::variant<bool*, int64_t*, double*, std::string*, std::optional<bool>*, std::optional<int64_t>*,
                   std::optional<double>*, std::optional<std::string>*, std::vector<int64_t>*, std::vector<double>*,
                   std::vector<std::string>*, OneOrEach<int64_t>*, OneOrEach<double>*, NamedIntegers*, NestedField>;

  template <class T>
  requires std::is_constructible_v<Value, T*> Field(const char* name, T* value) : name(name), value(value) {}

  template <class Config>
  requires(!std::is_constructible_v<Value, std::optional<Config>*>)
      Field(const char* name, std::optional<Config>* config)
      : name(name),
        value(NestedField{[config] { return config->has_value(); }, [config] { config->reset(); },
                          [config] {
                            if (!*config) config->emplace();
                            return fields(**config);
                          }}) {}

  const char* name;
  Value value;
};

/// Sets the fields that a JSON object names; the rest keep their values. owner begins every error: an unknown name (the
/// error lists the known ones), a value of another type, text that is not JSON. "class" inside a nested object is
/// skipped.
void read_json(const Fields& fields, std::string_view json, std::string_view owner);

/// All fields as one JSON object, in their order.
std::string write_json(const Fields& fields);

/// A config from JSON: `config_from_json<GAUConfig>(R"({"dim": 512})", "GAU")`.
template <class Config>
Config config_from_json(std::string_view json, std::string_view owner) {
  Config config;
  read_json(fields(config), json, owner);
  return config;
}

/// The inverse; takes a copy, since fields point into what they describe.
template <class Config>
std::string config_to_json(Config config) {
  return write_json(fields(config));
}

}  // namespace weft
