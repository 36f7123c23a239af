// Checks of the settings. Each message names the variable, and shows a right value.
import { modelDeployment } from 'types.bicep'

// Azure's public regions. azd checks before a deployment which of them have the models.
@export()
var regions = [
  'australiacentral'
  'australiaeast'
  'australiasoutheast'
  'austriaeast'
  'belgiumcentral'
  'brazilsouth'
  'canadacentral'
  'canadaeast'
  'centralindia'
  'centralus'
  'chilecentral'
  'denmarkeast'
  'eastasia'
  'eastus'
  'eastus2'
  'francecentral'
  'germanywestcentral'
  'indonesiacentral'
  'israelcentral'
  'italynorth'
  'japaneast'
  'japanwest'
  'koreacentral'
  'koreasouth'
  'malaysiawest'
  'mexicocentral'
  'newzealandnorth'
  'northcentralus'
  'northeurope'
  'norwayeast'
  'polandcentral'
  'qatarcentral'
  'southafricanorth'
  'southcentralus'
  'southeastasia'
  'southindia'
  'spaincentral'
  'swedencentral'
  'switzerlandnorth'
  'switzerlandwest'
  'uaenorth'
  'uksouth'
  'ukwest'
  'westcentralus'
  'westeurope'
  'westindia'
  'westus'
  'westus2'
  'westus3'
]

@export()
@description('The items of a comma-separated list in lower case. Spaces, empty items and repetitions do not count.')
func listOf(list string) string[] => union(filter(split(toLower(replace(list, ' ', '')), ','), item => !empty(item)), [])

@export()
func checkRegion(region string) string =>
  contains(regions, region)
    ? region
    : fail('OPENAI_LOCATIONS: "${region}" is not an Azure region. Example: swedencentral,eastus2')

var accountIdExample = '/subscriptions/SUBSCRIPTION/resourceGroups/GROUP/providers/Microsoft.CognitiveServices/accounts/NAME'
// In an id, /resourceGroups/ follows a subscription id of 36 characters.
func isInGroup(id string) bool => indexOf(id, '/resourcegroups/') == 51 && length(split(id, '/')) == 9

@export()
func checkAccountId(id string) string =>
  isInGroup(id) && contains(id, '/providers/microsoft.cognitiveservices/accounts/')
    ? id
    : fail('OPENAI_RESOURCE_IDS: "${id}" is not the resource id of an Azure OpenAI account. Example: ${accountIdExample}')

func isDigits(text string) bool =>
  empty(filter(range(0, length(text)), i => !contains('0123456789', substring(text, i, 1))))
@export()
func checkBytes(text string) int =>
  !empty(text) && length(text) <= 9 && isDigits(text)
    ? int(text)
    : fail('PROXY_SETTINGS: PROXY_MAX_BODY_BYTES is "${text}", not a whole number of at most 9 digits. Example: {"PROXY_MAX_BODY_BYTES": "7500000"}')
func isNumber(text string, highest int) bool =>
  !empty(text) && length(text) <= 3 && isDigits(text) ? int(text) <= highest : false
func isAddress(address string) bool =>
  length(split(address, '.')) == 4 && empty(filter(split(address, '.'), part => !isNumber(part, 255)))
func isRange(parts string[]) bool =>
  isAddress(parts[0]) && (length(parts) == 1 || (length(parts) == 2 && isNumber(parts[1], 30)))
// A larger range is a slip that opens the tables to the internet.
func isNarrow(parts string[]) bool => length(parts) == 1 || int(parts[1]) >= 16
// The addresses of local networks (RFC 1918), and of the machine itself.
func isLocal(address string) bool =>
  startsWith(address, '10.') || startsWith(address, '127.') || startsWith(address, '192.168.') || (startsWith(
    address,
    '172.'
  ) && contains(range(16, 16), int(split(address, '.')[1])))

@export()
func checkAddress(address string) string =>
  !isRange(split(address, '/'))
    ? fail('ADMIN_IP_ADDRESSES: "${address}" is not an IPv4 address or range. Example: 203.0.113.7,198.51.100.0/28')
    : isLocal(address)
        ? fail('ADMIN_IP_ADDRESSES: "${address}" is an address in a local network. Use the public address that Azure sees. Example: 203.0.113.7')
        : !isNarrow(split(address, '/'))
            ? fail('ADMIN_IP_ADDRESSES: "${address}" has too many addresses. Use /16 or a smaller range. Example: 198.51.100.0/28')
            : address

@export()
@description('Empty, or one mail address.')
func checkEmail(email string) string =>
  empty(email) || (length(split(email, '@')) == 2 && contains(last(split(email, '@')), '.') && !contains(
      split(replace(email, '@', '.'), '.'),
      ''
    ) && empty(filter([' ', ',', ';', '<'], mark => contains(email, mark))))
    ? email
    : fail('ALERT_EMAIL: "${email}" is not one mail address. Example: organiser@example.com')

func isMonth(date string) bool =>
  length(date) == 10 && isDigits(replace(date, '-', '')) && contains(
    map(range(101, 12), month => '-${substring(string(month), 1, 2)}-01'),
    substring(padLeft(date, 10), 4, 6)
  ) && !contains(take(date, 4), '-')
@export()
func checkMonth(date string) string =>
  isMonth(date) ? date : fail('BUDGET_START: "${date}" is not the first day of a month. Example: 2027-03-01')

func isTag(tag { key: string, value: string }) bool =>
  !empty(tag.key) && !startsWith(toLower(tag.key), 'azd-') && length(tag.key) <= 128 && length(tag.value) <= 256 && empty(filter(
    ['<', '>', '%', '&', '\\', '?', '/'],
    mark => contains(tag.key, mark)
  ))
@export()
@description('Azure\'s rules for tags of storage accounts, which are the strictest. azd finds its resources by the tags azd-...')
func checkTags(tags { *: string }) { *: string } =>
  length(items(tags)) <= 45 && empty(filter(items(tags), tag => !isTag(tag)))
    ? tags
    : fail('TAGS: ${join(map(filter(items(tags), tag => !isTag(tag)), tag => tag.key), ', ')}: use at most 45 tags, names of 128 characters without < > % & \\ ? / that do not begin with azd-, and values of 256. Example: {"costCenter": "1234"}')

func isName(name string) bool => empty(filter([' ', '/', '"', ',', ':'], mark => contains(name, mark)))
func areNames(names string[]) bool => length(union(names, [])) == length(names) && empty(filter(names, name => !isName(name)))
func isModel(name string) bool => !empty(name) && isName(name)
func isPrice(text string) bool =>
  empty(text) || (length(split(text, '.')) <= 2 && !startsWith(text, '.') && !endsWith(text, '.') && isDigits(replace(
    text,
    '.',
    ''
  )))
func isDeployment(item modelDeployment) bool =>
  isModel(item.model) && isPrice(item.?promptPrice ?? '') && isPrice(item.?completionPrice ?? '')

@export()
@description('A space counts as no value.')
func textOr(text string, missing string) string => empty(trim(text)) ? missing : trim(text)
@export()
func checkModel(name string) string =>
  isModel(name) ? name : fail('OPENAI_MODEL: "${name}" is not the name of a model. Example: gpt-5.4')
@export()
func checkDeployments(list modelDeployment[]) modelDeployment[] =>
  areNames(map(list, item => toLower(item.name)))
    ? empty(filter(list, item => !isDeployment(item)))
        ? list
        : fail('MODEL_DEPLOYMENTS: ${join(map(filter(list, item => !isDeployment(item)), item => item.name), ', ')}: a model is a name without spaces, and a price is a number. Example: [{"name": "chat", "model": "gpt-5.4", "promptPrice": "2.5"}]')
    : fail('MODEL_DEPLOYMENTS: every name must be unique, without spaces or punctuation. Names: ${join(map(list, item => '"${item.name}"'), ', ')}. Example: [{"name": "chat", "model": "gpt-5.4"}]')
