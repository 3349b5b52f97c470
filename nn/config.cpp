#include <weft/nn/config.h>

#include <nlohmann/json.hpp>

#include <algorithm>
#include <type_traits>

namespace weft {
namespace {

using Json = nlohmann::ordered_json;

// A value as an error shows it: a nested one could be of any depth and length, so only its kind is named.
std::string shown(const Json& j) {
  if (j.is_structured()) return j.is_array() ? "a list" : "an object";
  return j.dump(-1, ' ', false, Json::error_handler_t::replace).substr(0, 60);
}

template <class T>
struct Read;  // accepts(j), what: how the type is called in an error

template <>
struct Read<bool> {
  static bool accepts(const Json& j) { return j.is_boolean(); }
  static constexpr const char* what = "true or false";
};
template <>
struct Read<int64_t> {
  static bool accepts(const Json& j) {
    return j.is_number_integer() && !(j.is_number_unsigned() && j.get<uint64_t>() > static_cast<uint64_t>(INT64_MAX));
  }
  static constexpr const char* what = "an integer";
};
template <>
struct Read<double> {
  static bool accepts(const Json& j) { return j.is_number(); }
  static constexpr const char* what = "a number";
};
template <>
struct Read<std::string> {
  static bool accepts(const Json& j) { return j.is_string(); }
  static constexpr const char* what = "a string";
};
template <class T>
struct Read<std::vector<T>> {
  static bool accepts(const Json& j) {
    return j.is_array() && std::all_of(j.begin(), j.end(), [](const Json& e) { return Read<T>::accepts(e); });
  }
  static constexpr const char* what = std::is_same_v<T, int64_t>  ? "a list of integers"
                                      : std::is_same_v<T, double> ? "a list of numbers"
                                                                  : "a list of strings";
};
template <class T>
struct Read<OneOrEach<T>> {
  static bool accepts(const Json& j) { return Read<T>::accepts(j) || Read<std::vector<T>>::accepts(j); }
  static constexpr const char* what =
      std::is_same_v<T, int64_t> ? "an integer or a list of integers" : "a number or a list of numbers";
};
template <>
struct Read<NamedIntegers> {
  static bool accepts(const Json& j) {
    return j.is_object() && std::all_of(j.begin(), j.end(), [](const Json& e) { return Read<int64_t>::accepts(e); });
  }
  static constexpr const char* what = "an object of integers";
};

template <class T>
struct is_optional : std::false_type {};
template <class T>
struct is_optional<std::optional<T>> : std::true_type {};

void read(const Fields& fields, const Json& object, const std::string& owner);

template <class T>
void store(T* to, const Json& j) {
  *to = j.get<T>();
}
template <class T>
void store(OneOrEach<T>* to, const Json& j) {
  to->values = j.is_array() ? j.get<std::vector<T>>() : std::vector<T>{j.get<T>()};
}
void store(NamedIntegers* to, const Json& j) {
  to->clear();
  for (const auto& item : j.items()) to->emplace_back(item.key(), item.value().get<int64_t>());
}

template <class T>
void read_value(T* to, const Json& j, const std::string& owner, const char* name) {
  if constexpr (is_optional<T>::value) {
    if (j.is_null()) return to->reset();
    typename T::value_type value;
    read_value(&value, j, owner, name);
    *to = value;
  } else {
    check(Read<T>::accepts(j), owner, ": option ", name, " must be ", Read<T>::what, ", got ", shown(j));
    store(to, j);
  }
}

void read_value(const NestedField& to, const Json& j, const std::string& owner, const char* name) {
  if (j.is_null()) return to.reset();
  Json options = j;
  if (options.is_object()) options.erase("class");
  read(to.open(), options, concat(owner, ".", name));
}

void read(const Fields& fields, const Json& object, const std::string& owner) {
  check(object.is_object(), owner, ": expected a JSON object of options, got ", shown(object));
  for (const auto& item : object.items()) {
    const std::string& key = item.key();
    const Json& value = item.value();
    const auto field = std::find_if(fields.begin(), fields.end(), [&](const Field& f) { return f.name == key; });
    if (field == fields.end()) {
      std::string known;
      for (const Field& f : fields) put(known, concat(known.empty() ? "" : ", ", f.name));
      fail(owner, ": no option called ", key, known.empty() ? "; it takes none" : "; it has ", known);
    }
    std::visit([&](const auto& to) { read_value(to, value, owner, field->name); }, field->value);
  }
}

Json written(const Fields& fields);

Json written_value(const NestedField& from) { return from.has_value() ? written(from.open()) : Json(); }

template <class T>
Json written_value(const OneOrEach<T>* from) {
  return from->values.size() == 1 ? Json(from->values[0]) : Json(from->values);
}
Json written_value(const NamedIntegers* from) {
  Json object = Json::object();
  for (const auto& [name, value] : *from) object[name] = value;
  return object;
}
template <class T>
Json written_value(const T* from) {
  if constexpr (is_optional<T>::value)
    return *from ? Json(**from) : Json();
  else
    return Json(*from);
}

Json written(const Fields& fields) {
  Json object = Json::object();
  for (const Field& f : fields)
    object[f.name] = std::visit([](const auto& from) { return written_value(from); }, f.value);
  return object;
}

}  // namespace

void read_json(const Fields& fields, std::string_view json, std::string_view owner) {
  const std::string who(owner);
  Json object;
  try {
    object = Json::parse(json);
  } catch (const std::exception& e) {
    fail(who, ": options are not JSON: ", e.what());
  }
  read(fields, object, who);
}

std::string write_json(const Fields& fields) { return written(fields).dump(); }

}  // namespace weft
