# What is installed where, and the .deb that CPack makes of it (scripts/package).
set(KVEIL_DOC share/doc/kveil)
install(TARGETS kveil RUNTIME DESTINATION bin)
install(FILES systemd/kveil.service DESTINATION lib/systemd/system)
install(FILES systemd/kveil.sysusers DESTINATION lib/sysusers.d RENAME kveil.conf)
install(FILES systemd/kveil.tmpfiles DESTINATION lib/tmpfiles.d RENAME kveil.conf)
install(FILES packaging/etc/agent.json DESTINATION /etc/kveil)
install(FILES packaging/etc/policies/unselected.json DESTINATION /etc/kveil/policies)
# As in the repository, so that the documents' links hold.
install(FILES README.md CHANGELOG.md SECURITY.md CONTRIBUTING.md DESTINATION ${KVEIL_DOC})
install(FILES packaging/debian/copyright DESTINATION ${KVEIL_DOC})
install(DIRECTORY docs DESTINATION ${KVEIL_DOC})
install(DIRECTORY policies DESTINATION ${KVEIL_DOC} FILES_MATCHING PATTERN "*.json" PATTERN "*.txt")
install(DIRECTORY systemd/examples DESTINATION ${KVEIL_DOC}/systemd)

# A package per release: its libraries' names are the release's.
file(STRINGS /etc/os-release KVEIL_OS_RELEASE REGEX "^(ID|VERSION_ID)=")
string(REGEX REPLACE ".*(^|;)ID=\"?([a-z]+).*" "\\2" KVEIL_OS "${KVEIL_OS_RELEASE}")
string(REGEX REPLACE ".*VERSION_ID=\"?([0-9.]+).*" "\\1" KVEIL_OS_VERSION "${KVEIL_OS_RELEASE}")
string(REPLACE "debian" "deb" KVEIL_OS "${KVEIL_OS}")

set(CPACK_GENERATOR DEB)
set(CPACK_PACKAGE_NAME kveil)
set(CPACK_PACKAGE_VERSION "${PROJECT_VERSION}")
set(CPACK_PACKAGE_DIRECTORY "${CMAKE_BINARY_DIR}/package")
set(CPACK_PACKAGING_INSTALL_PREFIX /usr)
set(CPACK_STRIP_FILES ON)
set(CPACK_PACKAGE_CONTACT "the kveil authors <kveil@example.invalid>")
set(CPACK_PACKAGE_DESCRIPTION_SUMMARY "encrypts Kafka records on their way to the broker")
set(CPACK_PACKAGE_DESCRIPTION
  "An agent that encrypts the values of Kafka records on their way to the broker
and decrypts them on the way back, as its policies say. eBPF redirects the
connections of this node's services to it. Applications need no change.")
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_RELEASE "1~${KVEIL_OS}${KVEIL_OS_VERSION}")
set(CPACK_DEBIAN_PACKAGE_SECTION net)
set(CPACK_DEBIAN_PACKAGE_PRIORITY optional)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
set(CPACK_DEBIAN_PACKAGE_DEPENDS "init-system-helpers, systemd")
set(CPACK_DEBIAN_PACKAGE_CONTROL_STRICT_PERMISSION ON)
set(CPACK_DEBIAN_PACKAGE_CONTROL_EXTRA
  "${CMAKE_SOURCE_DIR}/packaging/debian/conffiles;${CMAKE_SOURCE_DIR}/packaging/debian/postinst;${CMAKE_SOURCE_DIR}/packaging/debian/prerm;${CMAKE_SOURCE_DIR}/packaging/debian/postrm")
include(CPack)
