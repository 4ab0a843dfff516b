#include "model/registry.hpp"

#include <map>
#include <mutex>
#include <utility>

#include "model/gemma/model.hpp"
#include "model/gemma3n/model.hpp"
#include "tensor/at_fork.hpp"

namespace gemlet {
namespace {

struct Registry {
  ForkMutex mutex;
  std::map<std::string, ModelFactory, std::less<>> factories = {
      {"gemma3", make_gemma3},
      {"gemma3n", make_gemma3n},
  };
};

Registry& registry() {
  static Registry all;
  return all;
}

}  // namespace

void register_architecture(const std::string& name, ModelFactory factory) {
  // The old factory goes when the lock is free: it may be a Python function, whose end runs Python.
  const std::lock_guard lock(registry().mutex);
  std::swap(registry().factories[name], factory);
}

std::vector<std::string> architectures() {
  const std::lock_guard lock(registry().mutex);
  std::vector<std::string> names;
  for (const auto& [name, factory] : registry().factories) names.push_back(name);
  return names;
}

namespace {

ModelFactory find_factory(const GgufFile& file) {
  const std::string_view architecture = file.get_string("general.architecture");
  {
    const std::lock_guard lock(registry().mutex);
    const auto found = registry().factories.find(architecture);
    if (found != registry().factories.end()) return found->second;
  }
  std::string known;
  for (const std::string& name : architectures()) known += (known.empty() ? "" : ", ") + name;
  throw Error(Error::Kind::unsupported,
              file.path().string() + ": architecture is " + quote(architecture) + ", gemlet runs " + known);
}

}  // namespace

void require_architecture(const GgufFile& file) { find_factory(file); }

std::unique_ptr<const Model> load_model(const GgufFile& file, std::size_t tokens) {
  return find_factory(file)(file, tokens);
}

}  // namespace gemlet
