#include "model/model.hpp"

namespace gemlet {

std::unique_ptr<Cache> Model::make_cache(CacheType type, std::size_t context, std::size_t chunk) const {
  return std::make_unique<KvCache>(shape(), type, context, chunk);
}

std::shared_ptr<const Model> Model::sliced(const Slice&) const {
  throw Error(Error::Kind::argument,
              "slice: this model has none, as it was not trained as a MatFormer (arXiv:2310.07707)");
}

}  // namespace gemlet
