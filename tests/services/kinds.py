"""The kinds of servers by name."""

from services.document_servers import MongoDB, MongoDBMember
from services.object_servers import FakeGCS, GCSEmulator, SeaweedFS
from services.optional_servers import Azurite, CephS3, RcloneS3, SwiftS3
from services.recipes import Recipe
from services.sql_servers import MariaDB, MySQL, PostgreSQL, PostgreSQL18

KINDS: dict[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        PostgreSQL(),
        MariaDB(),
        MongoDB(),
        SeaweedFS(),
        FakeGCS(),
        GCSEmulator(),
        PostgreSQL18(),
        MySQL(),
        Azurite(),
        RcloneS3(),
        SwiftS3(),
        CephS3(),
    )
}
PARTS: dict[str, Recipe] = {recipe.name: recipe for recipe in (MongoDBMember(),)}
